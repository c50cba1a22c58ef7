"""TIC: the frames that French meters (Linky and those before it) push on their customer output become readings.

Source: Enedis-NOI-CPT_54E (Linky; historic and standard mode) and Enedis-NOI-CPT_02E (the meters before it).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

from drivers.reading import Reading
from drivers.registers import rounded

VA_FOR_W = (
    "This output gives no watts: w is the apparent power drawn less the apparent power fed in (VA), "
    "a few per cent above the true watts for ordinary loads. The settlement goes by the counters, which are exact."
)

MOST_FRAME = 4096  # bytes; a three-phase standard frame has some 1,500
KINDS = 4  # of frame that a meter sends: long and short, with and without a warning; and one to spare

_MARKS = re.compile(b"([\x02\x03\x04])")  # frame begins, frame ends, frame broken off by the meter
_LABEL = re.compile("[A-Z][A-Z0-9+-]{0,8}")
_DATE = "[HEhe ][0-9]{12}\t"
_DIGIT = "[0-9]{%d}"
_TEXT = "[ -~]*"


def _forms(digits: Mapping[int, str], dated: Mapping[int, str], text: str) -> Mapping[str, re.Pattern[str]]:
    forms = {label: re.compile(_DIGIT % width) for width, labels in digits.items() for label in labels.split()}
    forms |= {label: re.compile(_DATE + _DIGIT % width) for width, labels in dated.items() for label in labels.split()}
    return forms | {label: re.compile(_TEXT) for label in text.split()}


# What stands between a label and its checksum. Where a value is used, digits of the exact number.
_COUNTERS = ("BASE", "HCHC HCHP", "EJPHN EJPHPM", "BBRHCJB BBRHPJB BBRHCJW BBRHPJW BBRHCJR BBRHPJR")
_HISTORIC = _forms(
    {
        12: "ADCO",
        9: " ".join(_COUNTERS),
        5: "PAPP PMAX",
        3: "IINST IINST1 IINST2 IINST3 IMAX IMAX1 IMAX2 IMAX3 ADPS ADIR1 ADIR2 ADIR3",
        2: "ISOUSC PEJP",
    },
    {},
    "OPTARIF PTEC DEMAIN HHPHC MOTDETAT PPOT",
)
_STANDARD = _forms(
    {
        9: " ".join(
            ("EAST EAIT ERQ1 ERQ2 ERQ3 ERQ4", *(f"EASF{i:02}" for i in range(1, 11)), *(f"EASD{i:02}" for i in range(1, 5)))
        ),
        5: "SINSTS SINSTS1 SINSTS2 SINSTS3 SINSTI",
        3: "IRMS1 IRMS2 IRMS3 URMS1 URMS2 URMS3 RELAIS",
        2: "VTIC PREF PCOUP NTARF NJOURF NJOURF+1",
    },
    {
        5: "SMAXSN SMAXSN1 SMAXSN2 SMAXSN3 SMAXSN-1 SMAXSN1-1 SMAXSN2-1 SMAXSN3-1 SMAXIN SMAXIN-1 CCASN CCASN-1 CCAIN CCAIN-1",
        3: "UMOY1 UMOY2 UMOY3",
        2: "DPM1 DPM2 DPM3 FPM1 FPM2 FPM3",
        0: "DATE",
    },
    "ADSC NGTF LTARF STGE MSG1 MSG2 PRM PJOURF+1 PPOINTE",
)
_PLACES: Mapping[str, str] = {
    **{"IINST": "a_l1", "IINST1": "a_l1", "IINST2": "a_l2", "IINST3": "a_l3"},
    **{f"URMS{phase}": f"v_l{phase}" for phase in (1, 2, 3)},
    **{f"IRMS{phase}": f"a_l{phase}" for phase in (1, 2, 3)},
    "EAST": "import_wh",
    "EAIT": "export_wh",
}


class Tic:
    """Reads a customer output in either mode, 7E1, 1200 baud historic or 9600 standard; the separator tells which it is.

    There are no watts on it, see VA_FOR_W: w is + drawn, SINSTS less SINSTI; in historic mode PAPP, which never tells of feeding
    in. va is the same without sign; w_l1 to w_l3 are SINSTS1 to 3 while nothing is fed in. import_wh is EAST, or in historic
    mode the sum of the tariffs; export_wh is EAIT.

    The checksum has 6 bits: it sees any one flipped bit but not each pair. The port should check parity too and put NUL for a byte
    that fails (INPCK without PARMRK). A frame is believed when every group has its checksum and its form, none comes
    twice, and what belongs together is there. A first frame with a label unknown here, and later one of other labels than those
    before it, is believed when it comes again.
    """

    def __init__(self) -> None:
        self.damaged = 0  # frames begun and thrown away
        self._frame: bytes | None = None  # what has come of it; None between two
        self._seen: tuple[frozenset[str], ...] = ()  # the labels of the last kinds of frame, newest first
        self._believed = False  # there was a reading

    def feed(self, data: bytes) -> list[Reading]:
        """One reading for each intact frame that these bytes complete; never raises."""
        readings: list[Reading] = []
        for piece in _MARKS.split(data):
            if piece == b"\x03" and self._frame is not None:
                reading = self._end(self._frame)
                self._frame = None if reading else self._frame
                readings += [reading] if reading else []
            if piece in (b"\x02", b"\x03", b"\x04"):
                self.damaged += self._frame is not None
                self._frame = b"" if piece == b"\x02" else None
            elif self._frame is not None:
                self._frame += piece
                if len(self._frame) > MOST_FRAME:
                    self.damaged += 1
                    self._frame = None
        return readings

    def _end(self, frame: bytes) -> Reading | None:
        """The reading of a whole frame; None if it is damaged."""
        text = frame.decode("ascii", "replace")
        separator = "\t" if "\t" in text else " "
        forms, first = (_STANDARD, "ADSC") if separator == "\t" else (_HISTORIC, "ADCO")
        groups: dict[str, str] = {}
        if not (text.startswith("\n") and text.endswith("\r")):
            return None
        for group in text[1:-1].split("\r\n"):
            found = _group(group, separator)
            if found is None or found[0] in groups:
                return None
            groups[found[0]] = found[1]
        labels = frozenset(groups)
        expected = labels in self._seen or (not self._believed and labels <= forms.keys())
        self._seen = (labels, *(kind for kind in self._seen if kind != labels))[:KINDS]
        if first not in groups or not expected:
            return None
        if any(not forms[label].fullmatch(value) for label, value in groups.items() if label in forms):
            return None
        reading = _standard(groups) if separator == "\t" else _historic(groups)
        self._believed |= reading is not None
        return reading


def _group(group: str, separator: str) -> tuple[str, str] | None:
    """Label and what follows it, of `label SEP value SEP checksum`; None when it is damaged. The sum itself may be a space."""
    body, sum_ = group[:-1], group[-1:]
    label, _, value = body.removesuffix(separator).partition(separator)
    summed = body if separator == "\t" else body[:-1]  # 54E 5.3.6: historic mode leaves the last separator out
    right = chr((sum(map(ord, summed)) & 0x3F) + 0x20)
    if not body.endswith(separator) or not _LABEL.fullmatch(label) or sum_ != right:
        return None
    return label, value


def _historic(groups: Mapping[str, str]) -> Reading | None:
    tariffs = [labels.split() for labels in _COUNTERS if groups.keys() & set(labels.split())]
    if len(tariffs) > 1 or any(label not in groups for labels in tariffs for label in labels):
        return None
    exact = _placed(groups)
    for labels in tariffs:
        exact["import_wh"] = Fraction(sum(int(groups[label]) for label in labels))
    if "PAPP" in groups:
        return _good(int(groups["PAPP"]), exact)
    if "ADIR1" in groups:
        return _absent("overload: until it ends the meter sends only its currents; draw less", exact)
    return _absent("this meter sends no apparent power (PAPP); it needs another meter beside it", exact)


def _standard(groups: Mapping[str, str]) -> Reading | None:
    if ("EAIT" in groups) != ("SINSTI" in groups):  # a producer's meter sends both, another neither (54E 6.2.2)
        return None
    exact = _placed(groups)
    if "SINSTS" not in groups:
        return _absent("the meter sends no apparent power (SINSTS); ask the grid operator why", exact)
    va = int(groups["SINSTS"]) - int(groups.get("SINSTI", "0"))
    phases = {f"w_l{phase}": Fraction(groups[f"SINSTS{phase}"]) for phase in (1, 2, 3) if f"SINSTS{phase}" in groups}
    return _good(va, exact if int(groups.get("SINSTI", "0")) else {**phases, **exact})


def _placed(groups: Mapping[str, str]) -> dict[str, Fraction]:
    return {name: Fraction(groups[label]) for label, name in _PLACES.items() if label in groups}


def _good(va: int, exact: Mapping[str, Fraction]) -> Reading:
    return Reading("good", "", {"w": va, "va": abs(va), **{name: rounded(name, value) for name, value in exact.items()}})


def _absent(why: str, exact: Mapping[str, Fraction]) -> Reading:
    return Reading("absent", why, {name: rounded(name, value) for name, value in exact.items()})
