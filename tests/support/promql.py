"""PromQL as far as our dashboard uses it: parsed, and held against metrics that were really scraped.

The grammar is Prometheus' (selectors, ranges, functions, aggregations with `by`, arithmetic and `or`); the
rest of the language is refused. What a query may not do: name a metric or label that is not there, take the
rate of a gauge, or the quantile of what is not a histogram's buckets.
"""

import re
from typing import NamedTuple

TOKEN = re.compile(
    r"""\s*(?:(?P<number>\d+(?:\.\d+)?)(?![a-zA-Z_])
    |(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)
    |(?P<text>"(?:[^"\\]|\\.)*")
    |(?P<range>\[(?:\$__rate_interval|\d+[smh])\])
    |(?P<mark>=~|!~|!=|[=(){},+*/-]))""",
    re.VERBOSE,
)
AGGREGATIONS = {"sum", "max", "min", "avg"}
RATES = {"rate", "increase"}
SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\} (\S+)')
LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"')
# What Prometheus adds to every sample.
SCRAPED = {"instance", "job"}


class QueryError(Exception):
    pass


class Vector(NamedTuple):
    """What an expression gives: its labels, and for plain selectors the series' kind."""

    labels: set
    kind: str = ""
    is_range: bool = False


def scraped(page):
    """{series: (kind, labels)} of a metrics page; the series of a histogram by their own names."""
    kinds, series = {}, {}
    for line in page.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            kinds[name] = kind
            continue
        name, labels, value = SAMPLE.fullmatch(line).groups()
        float(value)
        family = name if name in kinds else name.rpartition("_")[0]
        kind = kinds[family] if family == name else name.rpartition("_")[2]
        series.setdefault(name, (kind, SCRAPED | {found for found, _ in LABEL.findall(labels)}))
    return series


def labels_of(query, series):
    """Labels of a query's result.

    Raises:
      QueryError: what is wrong with it.
    """
    parser = _Parser(query, series)
    found = parser.expression()
    if parser.peek() != ("", ""):
        raise QueryError(f"superfluous {parser.peek()[1]!r}")
    if found.is_range:
        raise QueryError("a range is no answer")
    return found.labels


class _Parser:
    def __init__(self, query, series):
        self._tokens = self._split(query)
        self._series = series

    def _split(self, query):
        tokens, at = [], 0
        while at < len(query.rstrip()):
            match = TOKEN.match(query, at)
            if match is None:
                raise QueryError(f"not understood: {query[at:]!r}")
            tokens.append((match.lastgroup, match[match.lastgroup]))
            at = match.end()
        return [*tokens, ("", "")]

    def peek(self):
        return self._tokens[0]

    def _next(self):
        return self._tokens.pop(0)

    def _take(self, *values):
        value = self._next()[1]
        if value not in values:
            raise QueryError(f"{value!r} where {' or '.join(values)} should be")
        return value

    def expression(self):
        left = self._term()
        while self.peek()[1] in ("+", "-", "*", "/", "or"):
            operator = self._next()[1]
            right = self._term()
            if left.is_range or right.is_range:
                raise QueryError("arithmetic with a range")
            if operator == "or":
                continue
            # Series without partners vanish: both sides must carry the same labels, or one be a number.
            if "number" not in (left.kind, right.kind) and left.labels != right.labels:
                raise QueryError(f"labels differ: {sorted(left.labels)}, {sorted(right.labels)}")
            left = Vector(left.labels | right.labels)
        return left

    def _term(self):
        kind, value = self._next()
        if kind == "number":
            return Vector(set(), "number")
        if value == "(":
            inner = self.expression()
            self._take(")")
            return inner
        if kind != "name":
            raise QueryError(f"{value!r} where a value should be")
        if value in AGGREGATIONS:
            return self._aggregation()
        if self.peek()[1] == "(":
            return self._function(value)
        return self._selector(value)

    def _aggregation(self):
        by = set()
        if self.peek()[1] == "by":
            self._next()
            by = self._names()
        self._take("(")
        inner = self.expression()
        self._take(")")
        if inner.is_range:
            raise QueryError("the sum of a range")
        if by - inner.labels:
            raise QueryError(f"no such label: {', '.join(sorted(by - inner.labels))}")
        return Vector(by, inner.kind if "le" in by else "")

    def _names(self):
        self._take("(")
        found = set()
        while True:
            found.add(self._next()[1])
            if self._take(",", ")") == ")":
                return found

    def _function(self, name):
        self._take("(")
        if name == "histogram_quantile":
            quantile = float(self._next()[1])
            self._take(",")
            inner = self.expression()
            if not 0 < quantile < 1 or inner.kind != "bucket" or "le" not in inner.labels:
                raise QueryError("the quantile of what is no histogram's buckets by le")
            result = Vector(inner.labels - {"le"})
        elif name in RATES:
            inner = self.expression()
            if not inner.is_range or inner.kind not in ("counter", "bucket", "sum", "count"):
                raise QueryError(f"the {name} of what is no counter over a range")
            result = Vector(inner.labels, inner.kind)
        elif name == "vector":
            result = self.expression()
        else:
            raise QueryError(f"no such function: {name}")
        self._take(")")
        return result

    def _selector(self, name):
        if name not in self._series:
            raise QueryError(f"no such metric: {name}")
        kind, labels = self._series[name]
        if self.peek()[1] == "{":
            self._next()
            while self.peek()[1] != "}":
                label = self._next()[1]
                if label not in labels:
                    raise QueryError(f"no such label: {label} of {name}")
                matcher = self._take("=", "!=", "=~", "!~")
                value = self._next()[1]
                if matcher.endswith("~"):
                    re.compile(value)
                if self.peek()[1] == ",":
                    self._next()
            self._next()
        is_range = self.peek()[0] == "range"
        if is_range:
            self._next()
        return Vector(labels, kind, is_range)
