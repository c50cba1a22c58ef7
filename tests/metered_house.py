"""A house of meters whose edges are taken, and the days and slots of the tests."""

from agent.edges import Edges

DAY = 20_000
K = DAY * 96  # the day's first slot of 15 minutes
T = DAY * 86_400.0  # and its moment
STEP = 5.0  # seconds between two looks at the meters


class House:
    """A node with one grid meter that counts `watts` (+ = import) all the time, and whatever the tests do to it."""

    def __init__(self, unix_s=T - 400, watts=720, at=(10_000, 500), slot_s=900, rated_w=1000):
        self.unix_s, self.now, self.watts, self.slot_s, self.rated_w = unix_s, 50.0, watts, slot_s, rated_w
        self.ws = [at[0] * 3600, at[1] * 3600]
        self.clock_good, self.clock_off = True, 0.0
        self.edges = Edges(rated_w, slot_s)
        self.kept = self.edges.dump()
        self.days = []

    @property
    def meter(self):
        return {"m": (int(self.ws[0] // 3600), int(self.ws[1] // 3600))}

    def pass_s(self, seconds):
        """Time goes by, and nobody looks."""
        self.unix_s, self.now = self.unix_s + seconds, self.now + seconds
        self.ws[0 if self.watts > 0 else 1] += abs(self.watts) * seconds

    def look(self, counted="", net_w=None):
        counted = self.meter if counted == "" else counted
        days = self.edges.sample(counted, net_w, self.unix_s + self.clock_off, self.clock_good, self.now)
        self.days += days
        if days:
            self.kept = self.edges.dump()

    def run(self, seconds, power=False, silent=False):
        """Look at the meters every five seconds; `power`: they have no counters."""
        for _ in range(int(seconds / STEP)):
            self.pass_s(STEP)
            self.look(*([None, None] if silent else [None, -self.watts] if power else [""]))
        return self

    def power_cut(self, seconds, kept=None):
        """The agent ends without a word and starts again with what it kept last."""
        self.pass_s(seconds)
        self.now = 3.0
        self.edges = Edges(self.rated_w, self.slot_s)
        self.edges.load(self.kept if kept is None else kept)
        return self

    @property
    def flags(self):
        return {slot - K: " ".join(sorted(why)) for slot, why in sorted(self.edges.flags.items())}

    @property
    def imports(self):
        return {edge - K: import_wh for edge, (import_wh, _) in sorted(self.edges.edges.items())}
