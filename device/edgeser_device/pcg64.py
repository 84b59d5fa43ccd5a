"""Random words for the order of views: numpy's PCG64, seeded by its SeedSequence, in Python's own numbers.

    words = raw_words((seed, epoch), 3072)          # numpy.random.PCG64(SeedSequence([seed, epoch])).random_raw(3072)

A training needs a few thousand of them an epoch and nothing else of numpy.random, which would take 6 MB on a board.
Generator: O'Neill 2014 (HMC-CS-2014-0905), XSL RR 128/64. Seeding: numpy/random/bit_generator.pyx.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray

POOL = 4
WORD, LONG, STATE = (1 << 32) - 1, (1 << 64) - 1, (1 << 128) - 1
"""Masks of 32, 64 and 128 bits."""
MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645


def raw_words(seed: Sequence[int], count: int) -> NDArray[np.uint64]:
    """The first words of a stream.

    Args:
        seed: Whole numbers, not negative.
        count: How many.

    Returns:
        Uint64 (count,).

    Raises:
        ValueError: A number of the seed is negative.
    """
    if min(seed) < 0:
        raise ValueError("a seed is a whole number, not below 0")
    return np.fromiter(islice(_words(seed), count), np.uint64, count)


def _words(seed: Sequence[int]) -> Iterator[int]:
    high, low, high_increment, low_increment = _seeded(seed)
    increment = (((high_increment << 64 | low_increment) << 1) | 1) & STATE
    state = ((increment + (high << 64 | low)) * MULTIPLIER + increment) & STATE
    while True:
        state = (state * MULTIPLIER + increment) & STATE
        word, turn = (state >> 64 ^ state) & LONG, state >> 122
        yield (word >> turn | word << (64 - turn)) & LONG


def _seeded(seed: Sequence[int]) -> tuple[int, int, int, int]:
    """Four words of 64 bits that seeds far from each other and near to each other share nothing of."""
    entropy = [part for number in seed for part in _parts(number)]
    hashed = _hasher(0x43B0D7E5, 0x931E8875)
    pool = [hashed(entropy[place] if place < len(entropy) else 0) for place in range(POOL)]
    for source in range(POOL):
        for place in range(POOL):
            if source != place:
                pool[place] = _mixed(pool[place], hashed(pool[source]))
    for number in entropy[POOL:]:
        for place in range(POOL):
            pool[place] = _mixed(pool[place], hashed(number))
    last = _hasher(0x8B51F9DD, 0x58F38DED)
    halves = [last(number) for number in islice(cycle(pool), 8)]
    one, two, three, four = (halves[place] | halves[place + 1] << 32 for place in range(0, 8, 2))
    return one, two, three, four


def _parts(number: int) -> Iterable[int]:
    """Words of 32 bits, the lowest first; zero is one word."""
    yield number & WORD
    while number := number >> 32:
        yield number & WORD


def _hasher(constant: int, factor: int) -> Callable[[int], int]:
    def hashed(value: int) -> int:
        nonlocal constant
        value ^= constant
        constant = constant * factor & WORD
        value = value * constant & WORD
        return value ^ value >> 16

    return hashed


def _mixed(one: int, other: int) -> int:
    value = (0xCA01F9DD * one - 0x4973F715 * other) & WORD
    return value ^ value >> 16
