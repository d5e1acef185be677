"""Files that are damaged at random, or by someone who knows where numbers are."""

import re

NUMBERS = [b"0", b"1", b"-1", b"7", b"255", b"4294967296", b'"F64"', b'"I8"', b"[]", b"{}", b"null"]


def damaged(data, rng):
    """Return the bytes with one to three of these: a bit flipped, bytes changed, lost, more."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        place, other = rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0 if place < len(data):
                data[place] ^= 1 << rng.randrange(8)
            case 1 if place < len(data):
                data[place] = rng.choice([0, 1, 127, 128, 255])
            case 2:
                data = data[:place]
            case 3:
                data[place:place] = rng.randbytes(rng.randint(1, 8))
            case 4:
                del data[min(place, other) : min(place, other) + rng.randint(1, 8)]
            case 5:
                data[place : place + 8] = data[other : other + 8]
    return bytes(data)


def renumbered(text, rng):
    """Return the JSON with one of its numbers or words replaced."""
    spot = rng.choice(list(re.finditer(rb"\d+|true|false|\"[a-zA-Z0-9]+\"", text)))
    return text[: spot.start()] + rng.choice(NUMBERS) + text[spot.end() :]
