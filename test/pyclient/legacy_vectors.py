"""Writes the vectors of the v1 wire: one file for each way a request can
be good or bad. The bytes are made by legacy.py, not by the server.

    legacy_vectors.py protocol/testdata/legacy
"""
import datetime
import json
import os
import sys
from decimal import Decimal

from legacy import Agent, Long, Wire, END, md5hex

KEY = IV = b'0123456789abcdef'
TOKEN_KEY = 'token key'
NOW = '2026-01-02 03:04:05.000000'
EARLIER = '2026-01-02 03:04:04.123456'

wire = Wire(KEY, IV)
two = Agent(wire, TOKEN_KEY, 'point-01', True)
three = Agent(wire, TOKEN_KEY, 'point-01', False)
STATE = [(('update_time', '1970-01-01 00:00:00'),)]
COLUMNS = ['s', 'i', 'n', 'f', 'd', 't', 'day', 'c', 'b']
TYPES = ['VARCHAR', 'INT', 'DECIMAL', 'DOUBLE', 'DATETIME', 'TIMESTAMP', 'DATE', 'TIME', 'BLOB']


def rows(python2):
    """Rows of a reply as the agent holds them."""
    long = Long if python2 else int
    return [('中 "it\'s"', long(3), Decimal('1.50'), 1e16, datetime.datetime(2020, 1, 2, 3, 4), datetime.datetime(2020, 1, 2, 3, 4, 5, 60),
             datetime.date(2020, 1, 2), datetime.timedelta(1, 3600, 5), b'\xff\x00'),
            ('', None, Decimal('0E-10'), -0.5, None, None, None, datetime.timedelta(-1, 82800), b"'")]


VALUES = ['中 "it\'s"', 3, '1.50', 1e16, '2020-01-02 03:04:00', '2020-01-02 03:04:05.000060', '2020-01-02', '25:00:00.000005', {'hex': 'ff00'},
          '', None, '0.0000000000', -0.5, '0000-00-00 00:00:00', None, '0000-00-00', '-01:00:00', {'hex': '27'}]


def reply(agent, typ, table, content, word=None, info=None, echo=True):
    """The packet that answers a request."""
    n = agent.native
    return wire.seal(agent.repr({
        n('userid'): n(agent.point) if echo else None,
        n('Business'): {n('Type'): n(typ) if echo else None, n('Content'): content, n('Table_Name'): n(table) if echo else None,
                        n('Table_Field'): None, n('Is_Syncdb'): True if echo else None},
        n('Error'): {n('Error_Flag'): word is not None, n('Error_Type'): word and n(word), n('Error_Info'): info and n(info)},
        n('Info_Status'): {n('Info_Type'): n('RESPONSE'), n('Security_Token'): n(agent.token(content, NOW)),
                           n('Time'): n(NOW), n('Is_End'): True},
    }).encode())


REFUSED = reply(three, None, None, None, 'Info_Certification_Error', 'refused', False)
UNREADABLE = reply(three, None, None, None, 'Receive_Data_Error', 'the packet could not be read', False)
written = set()


def vector(name, why, packets, expect, text=None, **more):
    if not isinstance(packets, list):
        packets = [packets]
    if text is None:
        try:
            text = wire.open(packets[-1]).decode()
        except ValueError:
            pass
    v = {'why': why, 'key': KEY.hex(), 'iv': IV.hex(), 'token_key': TOKEN_KEY, 'now': NOW, 'max_payload': 16384,
         'text': text, 'packets': [p.decode('latin-1') for p in packets], 'expect': expect}
    v.update(more)
    assert name not in written
    written.add(name)
    with open(os.path.join(sys.argv[1], name + '.json'), 'w') as f:
        json.dump(v, f, ensure_ascii=False, indent=1)
        f.write('\n')


def refused(name, why, packets, cause):
    vector(name, why, packets, 'refused', status=cause, reply=REFUSED.decode())


def unreadable(name, why, packet, cause='SG0003'):
    vector(name, why, packet, 'unreadable', status=cause, reply=UNREADABLE.decode())


def good():
    content = [('http://x/', '10.0.0.1', '中', Long(3), datetime.datetime(2020, 1, 2, 3, 4)), (None, b'\xe4\xb8\xad', '', -1, True)]
    values = ['http://x/', '10.0.0.1', '中', 3, '2020-01-02 03:04:00', None, '中', '', -1, 1]
    p = two.packet('UPLOAD_DB', 't', content, EARLIER)
    more = dict(op='upload', table='t', width=5, values=values, request_id=request_id(two.token(content, EARLIER)), stored=True,
                reply=reply(two, 'UPLOAD_DB', 't', None).decode())
    vector('ok-upload-python2', 'an upload as Python 2.7 prints it', p, 'message', **more)
    vector('ok-upload-again', 'the same bytes a second time have the same request id', [p, p], 'message', **more)
    content = [('http://x/', 1.5, '中\xa0', Decimal('1.50'), datetime.timedelta(1, 2, 3)), (None, b'\xff', '', 2**64, datetime.time(1, 2))]
    values = ['http://x/', 1.5, '中\xa0', '1.50', '24:00:02.000003', None, {'hex': 'ff'}, '', '18446744073709551616', '01:02:00']
    vector('ok-upload-python3', 'an upload as Python 3 prints it', three.packet('UPLOAD_DB', 't', content, EARLIER), 'message', op='upload', table='t',
           width=5, values=values, request_id=request_id(three.token(content, EARLIER)), reply=reply(three, 'UPLOAD_DB', 't', None).decode())
    vector('ok-upload-empty', 'an upload without rows', two.packet('UPLOAD_DB', 't', [], EARLIER), 'message', op='upload', table='t', width=0, values=[],
           request_id=request_id(two.token([], EARLIER)), reply=reply(two, 'UPLOAD_DB', 't', None).decode())
    for agent, name in ((two, 'python2'), (three, 'python3')):
        state = STATE if agent is two else [(('update_time', '中'),)]
        down = dict(columns=COLUMNS, types=TYPES, values=VALUES)
        vector('ok-download-' + name, 'a download with carried state, and the reply with every type there is',
               agent.packet('DOLOAD_DB', 't', state, EARLIER), 'message', op='download', table='t', state=[list(state[0][0])],
               request_id=request_id(agent.token(state, EARLIER)), rows=down,
               reply=reply(agent, 'DOLOAD_DB', 't', [rows(agent is two)]).decode())
    vector('ok-download-nothing', 'a download without state, and a reply without rows', three.packet('DOLOAD_DB', 't', None, EARLIER), 'message',
           op='download', table='t', state=[], request_id=request_id(three.token(None, EARLIER)),
           rows=dict(columns=['a'], types=['INT'], values=[]), reply=reply(three, 'DOLOAD_DB', 't', [[]]).decode())
    content = [(1, 2), (3,)]
    vector('ok-upload-ragged', 'rows of different lengths: what all have counts', three.packet('UPLOAD_DB', 't', content, EARLIER), 'message',
           op='upload', table='t', width=1, values=[1, 3], request_id=request_id(three.token(content, EARLIER)),
           reply=reply(three, 'UPLOAD_DB', 't', None).decode())
    for name, why, content, state in (
            ('dict', 'a state that is a dict', {'update_time': 'x'}, [['update_time', 'x']]),
            ('printed', 'a state that is the text of a dict', str({'update_time': 'x'}), [['update_time', 'x']]),
            ('word', 'a word: it is no state, and only a rule that needs one refuses it', 'update_time', None),
            ('number', 'a number: likewise', 5, None),
            ('flat', 'pairs that stand in no tuple: likewise', [('update_time', 'x')], None),
            ('name', 'a name that is a number: likewise', [((1, 'x'),)], None),
            ('many', '65 items: likewise', [tuple(('n%d' % i, i) for i in range(65))], None)):
        vector('ok-state-' + name, why, three.packet('DOLOAD_DB', 't', content, EARLIER), 'message', op='download', table='t',
               state=state or [], stateless=state is None, request_id=request_id(three.token(content, EARLIER)),
               rows=dict(columns=['a'], types=['INT'], values=[1]), reply=reply(three, 'DOLOAD_DB', 't', [[(1,)]]).decode())
    plain = three.text('DOLOAD_DB', 't', '', NOW[:19]).decode()
    vector('ok-time-without-fraction', 'Python prints no fraction when it is 0; Content is a text, whose value the token is over',
           wire.seal(plain.encode()), 'message', op='download', table='t', state=[], request_id=request_id(three.token('', NOW[:19]), NOW),
           rows=dict(columns=['a'], types=['INT'], values=[1]), reply=reply(three, 'DOLOAD_DB', 't', [[(1,)]]).decode())


def request_id(token, time=EARLIER):
    seconds = int(datetime.datetime.strptime(time, '%Y-%m-%d %H:%M:%S.%f').replace(tzinfo=datetime.timezone.utc).timestamp())
    return '%016x-%s' % (1 << 63 | seconds, token[:16])


def bad_packets():
    p = three.packet('DOLOAD_DB', 't', None, EARLIER)
    body, payload = p[:-len(END)], p[16:-16 - len(END)]

    def around(payload):
        d = md5hex(payload).encode()
        return d[:16] + payload + d[16:] + END
    vector('split-empty', 'an end with nothing before it', END, 'split')
    vector('split-short', 'shorter than its MD5', b'0' * 31 + END, 'split')
    vector('split-newline', 'a line feed that begins no end', body[:40] + b'\n' + body[40:] + END, 'split')
    vector('split-end', 'an end that is another', body + b'\n\r\r', 'split')
    vector('split-too-long', 'longer than any packet may be, and no end in sight', b'0' * (16384 + 35), 'split')
    unreadable('md5-first', 'the first half of the MD5 is another', b'0' + b'1' * 15 + p[16:], 'SG0004')
    unreadable('md5-second', 'the second half of the MD5 is another', p[:-19] + b'1' * 16 + END, 'SG0004')
    unreadable('md5-upper', 'the MD5 in upper case', p[:16].upper() + payload + p[-19:-3].upper() + END, 'SG0004')
    unreadable('payload-changed', 'a digit of the payload is another', p[:20] + bytes([p[20] ^ 1]) + p[21:], 'SG0004')
    unreadable('hex-upper', 'the payload in upper case, its MD5 fits', around(payload.upper()))
    unreadable('hex-odd', 'an odd number of digits', around(payload[:-1]))
    unreadable('hex-none', 'no hex at all', around(b'z' * 32))
    unreadable('payload-empty', 'no payload', around(b''))
    unreadable('payload-blocks', 'no whole blocks of AES', around(payload[:-2]))
    vector('wrong-key', 'sealed with another AES key', Wire(b'x' * 16, IV).seal(three.text('DOLOAD_DB', 't', None, EARLIER)), 'refused', status='SG0001',
           reply=REFUSED.decode())
    refused('wrong-iv', 'sealed with another initialisation vector', Wire(KEY, b'x' * 16).seal(three.text('DOLOAD_DB', 't', None, EARLIER)), 'SG0001')


def bad_texts():
    text = three.text('DOLOAD_DB', 't', None, EARLIER).decode()

    def changed(name, why, old, new, cause='SG0001'):
        assert old in text, old
        refused(name, why, wire.seal(text.replace(old, new, 1).encode()), cause)
    refused('text-empty', 'nothing but padding', wire.seal(b''), 'SG0001')
    refused('text-cut', 'the text ends in its middle', wire.seal(text[:100].encode()), 'SG0001')
    refused('text-more', 'something behind the dict', wire.seal((text + ' 1').encode()), 'SG0001')
    refused('text-list', 'a list, no dict', wire.seal(b'[1, 2]'), 'SG0001')
    refused('text-nul', 'a NUL in the text', wire.seal(text.replace('None', "'\0'", 1).encode()), 'SG0001')
    refused('text-utf8', 'a text that is not UTF-8', wire.seal(text.replace('None', "u'?'", 1).encode().replace(b'?', b'\xff')), 'SG0001')
    refused('text-expression', 'an expression', wire.seal(text.replace('None', '[1] * 5', 1).encode()), 'SG0001')
    refused('text-call', 'a call', wire.seal(text.replace('None', "__import__('os').system('true')", 1).encode()), 'SG0001')
    refused('text-name', 'a name that is no literal', wire.seal(text.replace('None', 'open', 1).encode()), 'SG0001')
    refused('text-deep', 'lists in lists, deeper than 32', wire.seal(text.replace('None', '[' * 40 + ']' * 40, 1).encode()), 'SG0001')
    refused('text-infinite', 'a float that is not finite', wire.seal(text.replace('None', '1e999', 1).encode()), 'SG0001')
    refused('text-digits', 'a number of 5000 digits', wire.seal(text.replace('None', '9' * 5000, 1).encode()), 'SG0001')
    refused('text-pairs', 'a dict of 200 pairs', wire.seal(text.replace('None', repr({i: i for i in range(200)}), 1).encode()), 'SG0001')
    changed('key-twice', 'a key twice', "'Table_Name': 't'", "'Table_Name': 't', 'Table_Name': 'u'")
    changed('no-userid', 'no userid', "'userid'", "'user'")
    changed('userid-number', 'a point whose userid is a number, and that may not speak this wire', "'point-01'", '7', 'SG0008')
    changed('userid-none', 'a userid that is neither text nor number', "'point-01'", 'None')
    changed('userid-empty', 'an empty userid', "'point-01'", "''", 'SG0008')
    changed('userid-long', 'a userid of more than 64 bytes', 'point-01', 'point-' + 'x' * 60, 'SG0008')
    changed('userid-unknown', 'a point that may not speak this wire', 'point-01', 'other-01', 'SG0008')
    changed('no-business', 'no Business', "'Business'", "'business'")
    changed('business-none', 'a Business that is no dict', "'Business': {", "'Business': None, 'x': {")
    changed('no-type', 'no Type', "'Type'", "'type'")
    changed('no-table', 'no Table_Name', "'Table_Name'", "'table'")
    changed('table-number', 'a Table_Name that is no text', "'Table_Name': 't'", "'Table_Name': 1")
    changed('no-info', 'no Info_Status', "'Info_Status'", "'info'")
    changed('info-response', 'a response, no request', "'REQUEST'", "'RESPONSE'")
    changed('no-token', 'no Security_Token', "'Security_Token'", "'token'")
    changed('token-number', 'a token that is no text', "'Security_Token': '", "'Security_Token': 1, 'x': '")
    token = three.token(None, EARLIER)
    changed('token-wrong', 'another token', token, '0' * 32)
    changed('token-upper', 'the token in upper case', token, token.upper())
    changed('token-short', 'a token cut short', token, token[:31])
    changed('token-content', 'Content changed, the token not', "'Content': None", "'Content': [] ")
    changed('token-spaces', 'a token over the content as it would be printed, not as it stands', "'Content': None", "'Content': ( )")
    changed('token-time', 'Time changed, the token not', EARLIER, NOW)
    refused('token-key', 'a token made with another token key', Agent(wire, 'other', 'point-01', False).packet('DOLOAD_DB', 't', None, EARLIER), 'SG0001')
    changed('no-time', 'no Time', "'Time'", "'time'")
    for name, why, time in (('time-form', 'a Time in another form', '2026-01-02T03:04:04.123456'), ('time-month', 'a month 13', '2026-13-02 03:04:04.123456'),
                            ('time-empty', 'an empty Time', ''), ('time-old', 'a Time 301 s ago', '2026-01-02 02:59:04.000000'),
                            ('time-ahead', 'a Time 301 s ahead', '2026-01-02 03:09:06.000000')):
        refused(name, why, three.packet('DOLOAD_DB', 't', None, time), 'SG0001')


def replays():
    p = three.packet('DOLOAD_DB', 't', None, EARLIER)
    refused('replay-download', 'a download a second time', [p, p], 'SG0001')
    u = three.text('UPLOAD_DB', 't', [(1,)], EARLIER)
    refused('replay-table', 'the token of an upload for another table', [wire.seal(u), wire.seal(u.replace(b"'Table_Name': 't'", b"'Table_Name': 'u'"))], 'SG0001')
    refused('other-point', 'another point on the same connection',
            [p, Agent(wire, TOKEN_KEY, 'point-02', False).packet('DOLOAD_DB', 't', None, EARLIER)], 'SG0008')


def unfit():
    for name, why, typ, table, content in (
            ('unfit-type', 'a Type there is not', 'DELETE_DB', 't', None),
            ('unfit-table-empty', 'an empty Table_Name', 'UPLOAD_DB', '', [(1,)]),
            ('unfit-table-long', 'a Table_Name of 300 bytes', 'UPLOAD_DB', 't' * 300, [(1,)]),
            ('unfit-content', 'an upload of a number', 'UPLOAD_DB', 't', 1),
            ('unfit-content-text', 'an upload of a text', 'UPLOAD_DB', 't', 'x'),
            ('unfit-row', 'a row that is no tuple', 'UPLOAD_DB', 't', [1, 2]),
            ('unfit-row-empty', 'a row without values', 'UPLOAD_DB', 't', [()]),
            ('unfit-nested', 'a list where a value should be', 'UPLOAD_DB', 't', [(1, [2])])):
        vector(name, why, three.packet(typ, table, content, EARLIER), 'unfit', status='SG0203', word='Client_Data_Pack_Error')
    text = two.text('UPLOAD_DB', 't', [(1,)], EARLIER).replace(b"'Table_Name': 't'", b"'Table_Name': '\\xff'")
    vector('unfit-table-utf8', 'a Table_Name that is not UTF-8', wire.seal(text), 'unfit', status='SG0203', word='Client_Data_Pack_Error')


good()
bad_packets()
bad_texts()
replays()
unfit()
print(len(written), 'vectors')
