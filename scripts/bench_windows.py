"""Contexts and targets of the whole makemore list: the lectures' loop over characters, and this project's."""

import argparse
import statistics
import time

import torch

from makemore_pl.data.batches import windows
from makemore_pl.data.corpus import encode_names
from makemore_pl.data.lists import find_list


def notebook_windows(names: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Contexts (N, 3) and targets (N,) of names, by the lectures' loop over characters."""
    ids = {character: i for i, character in enumerate(sorted(set("".join(names))), start=1)} | {".": 0}
    contexts, targets = [], []
    for name in names:
        context = [0, 0, 0]
        for character in name + ".":
            contexts.append(context)
            targets.append(ids[character])
            context = [*context[1:], ids[character]]
    return torch.tensor(contexts), torch.tensor(targets)


def our_windows(names: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """The same from a stream of ids."""
    _, stream = encode_names([names])
    contexts, targets = windows(torch.from_numpy(stream), torch.arange(len(stream)), block_size=3)
    return contexts.long(), targets.long()


def compare_windows(repetitions: int) -> None:
    """Seconds that both take for the whole list."""
    names = find_list("makemore").names()
    ways = {"lectures' loop": notebook_windows, "here": our_windows}
    assert all(map(torch.equal, notebook_windows(names), our_windows(names)))
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repetitions):
        for way, build in ways.items():
            start = time.perf_counter()
            build(names)
            seconds[way].append(time.perf_counter() - start)
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    print("windows: " + ", ".join(f"{way} {median:.4f} s" for way, median in medians.items()), end=", ")
    notebook, ours = medians.values()
    print(f"ratio {notebook / ours:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5, help="turns, of which the median counts")
    compare_windows(parser.parse_args().repetitions)


if __name__ == "__main__":
    main()
