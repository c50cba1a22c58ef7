"""Write a wheel of a few files, of the same bytes each time: wheel.py FOLDER NAME VERSION TAG FILE[=NAME-IN-IT]..."""

import base64
import sys
import zipfile
from hashlib import sha256
from pathlib import Path


def main(folder: str, name: str, version: str, tag: str, *files: str) -> None:
    info = f"{name}-{version}.dist-info"
    pairs = [file.partition("=")[::2] for file in files]
    content = {inside or path: Path(path).read_bytes() for path, inside in pairs}
    content[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    content[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: grid\nRoot-Is-Purelib: false\nTag: {tag}\n".encode()
    lines = [f"{path},sha256={_digest(data)},{len(data)}" for path, data in content.items()]
    content[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""]).encode()
    with zipfile.ZipFile(Path(folder, f"{name}-{version}-{tag}.whl"), "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, data in content.items():
            wheel.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(sha256(data).digest()).rstrip(b"=").decode()


if __name__ == "__main__":
    main(*sys.argv[1:])
