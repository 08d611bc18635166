"""The predicted speed of a training over many ranks, from measured parts.

    python3 bench/scale.py --token-ms 415 --rows-per-rank 4 --bytes 4915320

- `--token-ms`: milliseconds of a training step of one rank, divided by its tokens (`train --dry-run`).
- `--bytes`: what a step sums over the ranks, 4 for each trainable parameter (`plan --ranks 2`).
- `--bandwidth` in Gbit/s and `--latency` in microseconds: of the network between the hosts.

A step takes as long as the rank with most tokens computes, and then the all-reduce: the formula of `plan --ranks`. The rows
have the lengths of instructions, prompts of 60 tokens and answers of log-normal length with a median of 45, and are
dealt as the program deals them: the longest first, each to the rank with the fewest tokens.

`--strong ROWS` keeps the rows of a step instead of the rows of a rank.
"""

import argparse
import heapq
import math
import random

RANKS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000]
STEPS = 20


def row_length(draw, max_len):
    return min(max_len, 60 + max(1, round(math.exp(draw.gauss(math.log(45), 0.9)))))


def busiest(lengths, ranks):
    """Tokens of the rank that gets most."""
    loads = [0] * ranks
    for length in sorted(lengths, reverse=True):
        heapq.heapreplace(loads, loads[0] + length)
    return max(loads)


def all_reduce_ms(ranks, args):
    if ranks == 1:
        return 0.0
    latency = 2 * math.ceil(math.log2(ranks)) * args.latency / 1e3
    return latency + 2 * (ranks - 1) / ranks * args.bytes * 8 / (args.bandwidth * 1e6)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--token-ms", type=float, required=True)
    parser.add_argument("--rows-per-rank", type=int, default=8)
    parser.add_argument("--strong", type=int, metavar="ROWS")
    parser.add_argument("--bytes", type=int, default=4_915_320, help="default: the prompts of a 7B")
    parser.add_argument("--max-len", type=int, default=512, help="tokens of the longest row; 512 is the program's default")
    parser.add_argument("--bandwidth", type=float, default=10)
    parser.add_argument("--latency", type=float, default=50)
    args = parser.parse_args()
    print("| ranks | rows of a step | imbalance | compute | all-reduce | tokens/s | of perfect |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for ranks in RANKS:
        rows = args.strong or ranks * args.rows_per_rank
        if rows < ranks:
            break
        draw = random.Random(1)
        most = tokens = 0
        for _ in range(STEPS):
            lengths = [row_length(draw, args.max_len) for _ in range(rows)]
            most += busiest(lengths, ranks) / STEPS
            tokens += sum(lengths) / STEPS
        compute, exchange = most * args.token_ms, all_reduce_ms(ranks, args)
        speed = 1e3 * tokens / (compute + exchange)
        perfect = 1e3 * ranks / args.token_ms
        print(
            f"| {ranks} | {rows} | {most * ranks / tokens:.3f} | {compute / 1e3:.3f} s | {exchange:.2f} ms "
            f"| {speed:,.0f} | {100 * speed / perfect:.1f} % |"
        )


if __name__ == "__main__":
    main()
