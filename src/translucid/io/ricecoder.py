"""A quick coder of whole numbers: what is left of a prediction, in Rice codes whose parameter follows the numbers.

A number is predicted from the cases before at its place, and moved by half of how far its left neighbour lies from
those. Only whole-number arithmetic decides, so every machine reads the same. It takes some nanoseconds a number, where
`rangecoder` takes a hundred, for about a tenth more room.

Import this module late: it compiles on first use.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from translucid.io.loops import compiled, leading_zeros

ONES = 20
"""So many ones announce a number that is written out."""
WIDTH = 40
"""Its bits; a prediction of 32-bit numbers can miss by 34."""
NARROW = 1 << 21
"""Numbers below are worked on in 32 bits."""
SPARE = 2
FINE = 4
"""Binary digits after the point of means."""
START = 16 << FINE
ONE = np.uint64(1)
LONGEST = 32
"""Bits of a code that is prepared together with others; the few longer ones are written alone."""


@compiled("always")
@no_type_check
def _parameter(eleven):
    """The k for which 2^k is next below 1.4 times the mean size of the residuals, at most 31; eleven sizes come in."""
    return 31 - np.int32(leading_zeros(np.uint32(min(eleven >> (3 + FINE), (1 << 32) - 1) | 1)))


@compiled("always")
@no_type_check
def _guess(mean, left, case):
    """Prediction; `left` is how far the left neighbour lies above its mean."""
    return (mean + (left if case == 0 else left >> 1) + (1 << (FINE - 1))) >> FINE


@compiled("always")
@no_type_check
def _pace(case):
    """How slowly the means follow: 1/2^pace of what was missed."""
    return 0 if case == 0 else 1 if case == 1 else 2 if case < 5 else 3 if case < 12 else 4


@compiled("always")
@no_type_check
def _follow(number, rest, j, means, sizes, size, pace):
    """Let the place's means follow; returns what the right neighbour sees of it."""
    left = (number << FINE) - means[j]
    means[j] += left >> pace
    sizes[j] = size + (((abs(rest) << FINE) - size) >> (pace + (pace == 0)))
    return left


# -- writing: a case is done in passes of simple loops, which the compiler turns into vectors ------------------------


@compiled()
@no_type_check
def _predict_first(row, rests, params, means, sizes):
    """Folded residuals and parameters of the first case, where each place leans on the one before."""
    left = 0
    for j in range(row.shape[0]):
        number, size = np.int64(row[j]), np.int64(sizes[max(j - 1, 0)])
        rest = number - _guess(np.int64(means[j]), left, 0)
        params[j] = _parameter(size * 11)
        rests[j] = (rest << 1) ^ (rest >> 63)
        left = _follow(number, rest, j, means, sizes, size, 0)


@compiled()
@no_type_check
def _predict(row, pace, lefts, rests, params, means, sizes):
    """The same of any later case; sums are cut to the type of the means so that they stay in vectors of it."""
    kind = means.dtype.type
    for j in range(row.shape[0]):
        lefts[j + 1] = kind(kind(kind(row[j]) << FINE) - means[j])
    for j in range(row.shape[0]):
        mean, size = means[j], sizes[j]
        guess = kind(kind(mean + kind(lefts[j] >> 1) + (1 << (FINE - 1))) >> FINE)
        means[j] = kind(mean + kind(lefts[j + 1] >> pace))
        rest = kind(kind(row[j]) - guess)
        sizes[j] = kind(size + kind(kind(kind(abs(rest) << FINE) - size) >> pace))
        params[j] = _parameter(kind(size * 11))
        rests[j] = kind(rest << 1) ^ kind(-(rest < 0))


@compiled()
@no_type_check
def _spell(rests, params, codes, counts):
    """Codes and how many bits they have; none where that is more than `LONGEST`."""
    kind = codes.dtype.type
    one, most = kind(1), kind(ONES)
    for j in range(rests.shape[0]):
        folded, k = kind(rests[j]), kind(params[j])
        ones = kind(folded >> k)
        head = min(ones, most)
        tail = kind(folded & kind(kind(one << k) - one))
        count = kind(head + one + k)
        codes[j] = kind(kind(one << head) - one) | kind(tail << kind(head + one))
        counts[j] = count if ones < most and count <= LONGEST else 0


@compiled()
@no_type_check
def _join(codes, counts, joined, bits):
    """Two neighbours as one of up to 64 bits, where both are there and are that short together."""
    for j in range(joined.shape[0]):
        a, b = np.uint64(counts[2 * j]), np.uint64(counts[2 * j + 1])
        joined[j] = np.uint64(codes[2 * j]) | (np.uint64(codes[2 * j + 1]) << a)
        bits[j] = np.int64(a + b) if a * b != 0 and a + b <= 64 else 0


@compiled("always")
@no_type_check
def _put(bits, count, words, state):
    """Append 1 to 64 bits; the word is stored each time, complete or not."""
    room, filled, at = state
    low, high = room | bits << np.uint64(filled), (bits >> ONE) >> np.uint64(63 - filled)
    words[at] = low
    filled += count
    full = filled >> 6
    return low ^ ((low ^ high) & np.uint64(-full)), filled & 63, at + full  # a branch would cost more


@compiled("always")
@no_type_check
def _put_alone(folded, k, words, state):
    """Append one number of any size."""
    ones = np.int64(folded >> np.uint64(k))
    if ones < ONES:
        state = _put((ONE << np.uint64(ones)) - ONE, ones + 1, words, state)
        return _put(folded & ((ONE << np.uint64(k)) - ONE), k, words, state) if k else state
    return _put((ONE << np.uint64(ONES)) - ONE | folded << np.uint64(ONES), ONES + WIDTH, words, state)


@compiled()
@no_type_check
def _put_case(rests, params, pairs, fours, words, state):
    """Append a case: four numbers at once where these are short enough, else two, else one."""
    for q in range(fours[0].shape[0]):
        if fours[1][q]:
            state = _put(fours[0][q], fours[1][q], words, state)
            continue
        for p in range(2 * q, 2 * q + 2):
            if pairs[1][p]:
                state = _put(pairs[0][p], pairs[1][p], words, state)
                continue
            for j in range(2 * p, min(2 * p + 2, rests.shape[0])):
                state = _put_alone(np.uint64(rests[j]), np.int64(params[j]), words, state)
    return state


@compiled()
@no_type_check
def _write(values, means, sizes, codes, counts, words):
    """Write (case, place) numbers; returns how many 32-bit words were taken.

    Args:
        means, sizes: (place,) int32, or int64 where numbers reach `NARROW`.
        codes, counts: (place, rounded up to fours) uint32, or uint64, all 0.
        words: uint64.
    """
    places, room = values.shape[1], codes.shape[0]
    lefts, rests = np.zeros(places + 1, means.dtype), np.zeros(places, means.dtype)
    params = np.zeros(places, np.int32)
    pairs = np.zeros(room // 2, np.uint64), np.zeros(room // 2, np.int64)
    fours = np.zeros(room // 4, np.uint64), np.zeros(room // 4, np.int64)
    state = np.uint64(0), 0, 0
    for case in range(values.shape[0]):
        if case == 0:
            _predict_first(values[0], rests, params, means, sizes)
        else:
            _predict(values[case], _pace(case), lefts, rests, params, means, sizes)
        _spell(rests, params, codes, counts)
        _join(codes, counts, pairs[0], pairs[1])
        _join(pairs[0], pairs[1], fours[0], fours[1])
        state = _put_case(rests, params, pairs, fours, words, state)
    words[state[2]] = state[0]
    return 2 * state[2] + (state[1] + 31) // 32


# -- reading -------------------------------------------------------------------------------------------------------


@compiled()
@no_type_check
def _read(words, values):
    """The inverse of `_write`; the last words of `words` are spare, and reading ends in them."""
    means, sizes = np.zeros(values.shape[1], np.int64), np.full(values.shape[1], START, np.int64)
    room, filled, at, last = np.uint64(0), 0, 0, words.size - 1
    for case in range(values.shape[0]):
        pace, left = _pace(case), 0
        for j in range(values.shape[1]):
            size = sizes[max(j - 1, 0)] if case == 0 else sizes[j]
            k = _parameter(size * 11)
            if filled < 32:
                room |= np.uint64(words[min(at, last)]) << np.uint64(filled)
                at, filled = at + 1, filled + 32
            ones = 0
            while ones < ONES and room & ONE:
                room >>= ONE
                ones += 1
            used = 1 if ones < ONES else 0
            room >>= np.uint64(used)
            filled -= ones + used
            folded, done, count = np.uint64(0), 0, k if used else WIDTH
            while done < count:
                if filled < 32:
                    room |= np.uint64(words[min(at, last)]) << np.uint64(filled)
                    at, filled = at + 1, filled + 32
                part = min(count - done, 24)
                folded |= (room & ((ONE << np.uint64(part)) - ONE)) << np.uint64(done)
                room >>= np.uint64(part)
                filled, done = filled - part, done + part
            if used:
                folded |= np.uint64(ones) << np.uint64(k)
            rest = np.int64(folded >> ONE) ^ -np.int64(folded & ONE)
            number = _guess(means[j], left, case) + rest
            values[case, j] = number
            left = _follow(number, rest, j, means, sizes, size, pace)
        if at > last:
            break
    return at - filled // 32


def encode(values: np.ndarray) -> np.ndarray:
    """Write whole numbers of 32 bits.

    Args:
        values: (case, place) int32.

    Returns:
        (byte,) uint8.

    Example:
        >>> x = (np.arange(60, dtype=np.int32) % 7).reshape(6, 10)
        >>> bool((decode(encode(x), x.shape) == x).all())
        True

    Source: Rice and Plaunt, Adaptive variable-length coding, 1971, doi:10.1109/TCOM.1971.1090789.

    Fails when: numbers jump between very small and very large at one place; the parameter then comes too late.
    """
    values = np.ascontiguousarray(values, np.int32)
    small = values.min(initial=0) > -NARROW and values.max(initial=0) < NARROW
    signed, unsigned = (np.int32, np.uint32) if small else (np.int64, np.uint64)
    places, room = values.shape[1], -(-values.shape[1] // 4) * 4
    words = np.empty(values.size + 2, np.uint64)
    used = _write(
        values,
        np.zeros(places, signed),
        np.full(places, START, signed),
        np.zeros(room, unsigned),
        np.zeros(room, unsigned),
        words,
    )
    return words.astype("<u8", copy=False).view(np.uint8)[: 4 * used].copy()


def decode(data: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The inverse of `encode`.

    Args:
        data: (byte,) uint8.
        shape: (case, place).

    Raises:
        ValueError: the data are too short, or not whole words.

    Fails when: bytes have changed; other numbers come out, or an error.
    """
    words = np.frombuffer(np.ascontiguousarray(data).tobytes() + bytes(4 * SPARE), "<u4").astype(np.uint32)
    values = np.empty(shape, np.int32)
    if _read(words, values) > len(words) - SPARE:
        raise ValueError("the data are too short")
    return values
