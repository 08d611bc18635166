"""The order of measuring: every configuration's sides one after the other, again and again, while there is time."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from process import Failed, say

# A single measurement that took longer is not repeated.
SLOW_SECONDS = 150
# A side that was so many times slower than another in a small configuration is left out of the larger ones.
HOPELESS = 3


@dataclass
class Side:
    """Somebody who is measured in a configuration."""

    name: str
    measure: Callable[[], dict]
    # Says, before the first run, why there shall be none.
    unless: Callable[[], str | None] = lambda: None
    runs: list = field(default_factory=list)
    error: str | None = None
    left_out: str | None = None
    wall_seconds: float = 0.0

    def is_open(self):
        return not self.error and not self.left_out and (not self.runs or self.wall_seconds <= SLOW_SECONDS)


@dataclass
class Group:
    """Sides that do the same work, to be compared with each other."""

    part: str
    config: str
    sides: list[Side]
    facts: dict = field(default_factory=dict)
    # Curves and scaling are looked at for their shape.
    once: bool = False

    def expected_seconds(self):
        return sum(side.wall_seconds for side in self.sides if side.is_open())


def hopeless(group, name, beside, what):
    """Why a side shall be left out, if it was by far slower than the one beside it in an earlier group."""
    runs = {side.name: side.runs for side in group.sides}
    if not runs[name] or not runs[beside]:
        return None
    times = runs[beside][0][what] / runs[name][0][what]
    return f"{times:.0f} times slower than {beside} with {group.config}" if times > HOPELESS else None


def measure(side, place):
    side.left_out = None if side.runs else side.unless()
    if side.left_out:
        say(f"{place}  {side.name}: left out, {side.left_out}")
        return
    start = time.perf_counter()
    try:
        side.runs.append(side.measure())
        how = f"{time.perf_counter() - start:.0f} s"
    except Failed as error:
        side.error = str(error)
        how = f"failed\n{error}"
    side.wall_seconds = time.perf_counter() - start
    say(f"{place}  {side.name}: {how}")


def run(groups, repeats, seconds, after_round):
    """Measures everything once, and on in rounds until it was done `repeats` times, or would last longer than `seconds`.

    The sides of a group alternate, so that a change of the machine's mood meets all of them."""
    deadline = time.perf_counter() + seconds
    for number in range(repeats):
        done = 0
        for group in groups:
            if number and (group.once or time.perf_counter() + group.expected_seconds() > deadline):
                continue
            for side in group.sides:
                if side.is_open():
                    measure(side, f"[round {number + 1}] {group.part}, {group.config}")
                    done += 1
        if not done:
            break
        after_round()
