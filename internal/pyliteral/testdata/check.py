"""Evaluates the literals on stdin, one in hex a line, and prints for each its
repr, its str and its value in a notation of the test's own, in hex. Runs under
Python 2.7 and 3."""
import binascii
import datetime
import struct
import sys
from decimal import Decimal

PY2 = sys.version_info[0] == 2


def dump(v):
    if v is None or v is True or v is False:
        return str(v)[0]
    if isinstance(v, int):
        return 'i%d;' % v
    if isinstance(v, float):
        return 'f' + binascii.hexlify(struct.pack('>d', v)).decode()
    if isinstance(v, bytes):
        return 's' + binascii.hexlify(v).decode() + ';'
    if isinstance(v, type(u'')):
        return 'u' + ''.join('%x,' % ord(c) for c in v) + ';'
    if isinstance(v, tuple):
        return '(' + ''.join(map(dump, v)) + ')'
    if isinstance(v, list):
        return '[' + ''.join(map(dump, v)) + ']'
    if isinstance(v, dict):
        return '{' + ''.join(sorted(dump(k) + dump(v[k]) for k in v)) + '}'
    if isinstance(v, datetime.datetime):
        return 'D%d,%d,%d,%d,%d,%d,%d;' % (v.year, v.month, v.day, v.hour, v.minute, v.second, v.microsecond)
    if isinstance(v, datetime.date):
        return 'd%d,%d,%d;' % (v.year, v.month, v.day)
    if isinstance(v, datetime.time):
        return 't%d,%d,%d,%d;' % (v.hour, v.minute, v.second, v.microsecond)
    if isinstance(v, datetime.timedelta):
        return 'x%d,%d,%d;' % (v.days, v.seconds, v.microseconds)
    if isinstance(v, Decimal):
        sign, digits, exponent = v.as_tuple()
        return 'm%d,%s,%d;' % (sign, ''.join(map(str, digits)), exponent)
    if PY2 and isinstance(v, long):
        return 'l%d;' % v
    raise TypeError(type(v))


def hexed(s):
    if not isinstance(s, bytes):
        s = s.encode('utf-8', 'strict' if PY2 else 'surrogatepass')
    return binascii.hexlify(s).decode() or '-'


def main():
    for line in sys.stdin:
        text = binascii.unhexlify(line.strip())
        v = eval(text if PY2 else text.decode('utf-8'), {'datetime': datetime, 'Decimal': Decimal})
        print(hexed(repr(v)) + ' ' + hexed(dump(v)))


main()
