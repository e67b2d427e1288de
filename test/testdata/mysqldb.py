"""MySQLdb's conversion of values, for Python 2 and 3: each line of the input is a JSON object of the types of the columns
and the rows as MySQL's text protocol gives them, in hex. The output is the repr of the rows, and after each the values
that a rule of the original puts into its text, as JSON."""
from __future__ import print_function
import datetime
import decimal
import json
import sys

TWO = sys.version_info[0] == 2
whole = int if not TWO else lambda s: int(s)
long_ = int if not TWO else long  # noqa: F821


def date(s):
    try:
        return datetime.date(*[int(x) for x in s.split('-', 2)])
    except ValueError:
        return None


def moment(s):
    try:
        d, t = s.split(' ', 1)
        t, _, micros = t.partition('.')
        return datetime.datetime(*[int(x) for x in d.split('-') + t.split(':') + [micros.ljust(6, '0')]])
    except ValueError:
        return date(s)


def delta(s):
    try:
        h, m, s = s.split(':')
        s, _, micros = s.partition('.')
        td = datetime.timedelta(hours=abs(int(h)), minutes=int(m), seconds=int(s), microseconds=int(micros.ljust(6, '0')))
        return -td if int(h) < 0 else td
    except ValueError:
        return None


KINDS = {
    'TINYINT': whole, 'SMALLINT': whole, 'MEDIUMINT': whole, 'YEAR': whole, 'INT': long_, 'BIGINT': long_,
    'FLOAT': float, 'DOUBLE': float, 'DECIMAL': decimal.Decimal,
    'DATE': date, 'DATETIME': moment, 'TIMESTAMP': moment, 'TIME': delta,
}
BYTES = ('BIT', 'BINARY', 'VARBINARY', 'TINYBLOB', 'BLOB', 'MEDIUMBLOB', 'LONGBLOB', 'GEOMETRY')


def value(kind, text):
    if text is None:
        return None
    raw = bytes(bytearray.fromhex(text))
    kind = kind.replace('UNSIGNED ', '')
    if kind in BYTES:
        return raw
    text = raw.decode('utf-8')
    return KINDS[kind](text) if kind in KINDS else text


def quoted(v):
    """What "'%s'" % v gives, after the original has put NULL into the place of 'None'."""
    text = (u"'%s'" % (v,)).replace("'None'", 'NULL')
    return text


for line in sys.stdin:
    asked = json.loads(line)
    rows = [tuple(value(k, v) for k, v in zip(asked['types'], row)) for row in asked['rows']]
    print(repr([rows]))
    for row in rows:
        print(json.dumps([None if isinstance(v, bytes) else quoted(v) for v in row]))
