"""A sink that keeps what it is given, and sends only what is new, as a real one does."""

from prunus.tracking.sink import finals, points


class Memory:
    """`runs` maps a run's key to its `Remembered`."""

    title = "memory"

    def __init__(self):
        self.runs = {}

    def open(self, tracked):
        return self.runs.setdefault(tracked.key, Remembered(tracked))


class Remembered:
    """What came of one run: `points` in order, `pages`, and how it ended each time."""

    def __init__(self, tracked):
        self.tracked, self.points, self.offered, self.pages, self.ends = tracked, [], [], [], []

    def curve(self, name, records):
        self._take(points(name, records))

    def figures(self, values):
        self._take(finals(values))

    def report(self, page):
        self.pages.append(page)

    def close(self, *, done):
        self.ends.append(done)

    def curves(self, key):
        return [(point.step, point.value) for point in self.points if point.key == key]

    def _take(self, given):
        for point in given:
            self.offered.append(point)
            if all((point.key, point.step) != (old.key, old.step) for old in self.points):
                self.points.append(point)
