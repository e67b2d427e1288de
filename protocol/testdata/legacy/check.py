"""Checks replies as an agent of the v1 wire does: evaluates the text, prints Content
again, compares the token. One JSON list a line: text in hex, token key. Runs
under Python 2.7 and 3; prints ok and repr(Content) in hex for each."""
import binascii
import datetime
import hashlib
import json
import sys
from decimal import Decimal

for line in sys.stdin:
    text, key = json.loads(line)
    text = binascii.unhexlify(text.encode('ascii'))
    if sys.version_info[0] > 2:
        text = text.decode('utf-8')
    reply = eval(text, {'datetime': datetime, 'Decimal': Decimal})
    content, info = reply['Business']['Content'], reply['Info_Status']
    signed = str(content) + info['Time'] + str(key)
    if not isinstance(signed, bytes):
        signed = signed.encode('utf-8')
    ok = hashlib.md5(signed).hexdigest() == info['Security_Token']
    printed = repr(content)
    if not isinstance(printed, bytes):
        printed = printed.encode('utf-8')
    print(('ok ' if ok else 'token ') + binascii.hexlify(printed).decode('ascii'))
