"""A client of the v1 wire, written from docs/protocol.md alone.

It needs Python 3 and python3-cryptography. With --python2 it speaks and checks
as an agent under Python 2.7 does: u'...' and 1L, and bytes where '...' stands.

    legacy.py [--python2] HOST PORT KEY IV TOKEN_KEY POINT    (KEY and IV in hex)

runs one session and prints what it saw as JSON.
"""
import argparse
import datetime
import hashlib
import json
import re
import socket
import sys
from decimal import Decimal

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

END = b'\n\r\n'


class Long(int):
    """Python 2's 1L."""

    def __repr__(self):
        return '%dL' % self


def repr2(v):
    """What Python 2.7's repr prints; str stands for its unicode, bytes for its str."""
    if isinstance(v, str):
        return 'u' + ascii(v)
    if isinstance(v, bytes):
        return repr(v)[1:]
    if isinstance(v, tuple):
        return '(' + ', '.join(map(repr2, v)) + (',)' if len(v) == 1 else ')')
    if isinstance(v, list):
        return '[' + ', '.join(map(repr2, v)) + ']'
    if isinstance(v, dict):
        return '{' + ', '.join(repr2(k) + ': ' + repr2(v[k]) for k in v) + '}'
    if isinstance(v, datetime.timedelta):
        parts = [v.days, v.seconds, v.microseconds]
        while len(parts) > 1 and parts[-1] == 0:
            parts.pop()
        return 'datetime.timedelta(%s)' % ', '.join(map(str, parts))
    return repr(v)


LITERAL = re.compile(r'''(u?)('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")|\b(\d+)L\b''')


def eval2(text):
    """The value that Python 2.7 gives to text."""
    def fix(m):
        if m.group(3):
            return 'Long(%s)' % m.group(3)
        return (m.group(1) or 'b') + m.group(2)
    names = {'datetime': datetime, 'Decimal': lambda digits: Decimal(digits.decode()), 'Long': Long}
    return eval(LITERAL.sub(fix, text), names)


def eval3(text):
    return eval(text, {'datetime': datetime, 'Decimal': Decimal})


def md5hex(b):
    return hashlib.md5(b).hexdigest()


class Wire:
    """Packets from texts and back."""

    def __init__(self, key, iv):
        self.cipher = Cipher(algorithms.AES(key), modes.CBC(iv))

    def seal(self, text):
        text += b'\0' * (16 - len(text) % 16)
        e = self.cipher.encryptor()
        payload = (e.update(text) + e.finalize()).hex().encode()
        digest = md5hex(payload).encode()
        return digest[:16] + payload + digest[16:] + END

    def open(self, packet):
        if not packet.endswith(END):
            raise ValueError('no end')
        packet = packet[:-len(END)]
        payload = packet[16:-16]
        if packet[:16] + packet[-16:] != md5hex(payload).encode():
            raise ValueError('MD5')
        d = self.cipher.decryptor()
        return (d.update(bytes.fromhex(payload.decode())) + d.finalize()).rstrip(b'\0')


class Agent:
    """One point: builds requests and checks replies."""

    def __init__(self, wire, token_key, point, python2):
        self.wire, self.token_key, self.point, self.python2 = wire, token_key, point, python2
        self.repr = repr2 if python2 else repr
        self.eval = eval2 if python2 else eval3

    def native(self, s):
        """s as '...' is in that Python."""
        return s.encode() if self.python2 else s

    def token(self, content, time):
        text = content if isinstance(content, (str, bytes)) else self.repr(content)
        if isinstance(text, str):
            text = text.encode()
        return md5hex(text + time.encode() + self.token_key.encode())

    def text(self, typ, table, content, time=None):
        if time is None:
            time = datetime.datetime.utcnow().strftime('%Y-%m-%d %H:%M:%S.%f')
        n = self.native
        return self.repr({
            n('userid'): n(self.point),
            n('Business'): {n('Type'): n(typ), n('Content'): content, n('Table_Name'): n(table),
                            n('Table_Field'): None, n('Is_Syncdb'): True},
            n('Error'): {n('Error_Flag'): False, n('Error_Type'): None, n('Error_Info'): None},
            n('Info_Status'): {n('Info_Type'): n('REQUEST'), n('Security_Token'): n(self.token(content, time)),
                               n('Time'): n(time), n('Is_End'): True},
        }).encode()

    def packet(self, *args):
        return self.wire.seal(self.text(*args))

    def check(self, packet):
        """Returns Content and the Error_Type of a reply whose token fits."""
        n = self.native
        reply = self.eval(self.wire.open(packet).decode())
        info, content = reply[n('Info_Status')], reply[n('Business')][n('Content')]
        if info[n('Info_Type')] != n('RESPONSE'):
            raise ValueError('no response')
        time = info[n('Time')]
        if self.python2:
            time = time.decode()
        if n(self.token(content, time)) != info[n('Security_Token')]:
            raise ValueError('token does not fit %r' % self.wire.open(packet))
        word = reply[n('Error')][n('Error_Type')]
        return content, word.decode() if isinstance(word, bytes) else word


def receive(sock, left=b''):
    """One packet, and what came behind it."""
    while END not in left:
        more = sock.recv(65536)
        if not more:
            return left, b''
        left += more
    end = left.index(END) + len(END)
    return left[:end], left[end:]


def session(agent, address):
    seen = {}
    rows = [('http://x/', '10.0.0.1', '\u4e2d\u6587 "it\'s"', Long(3) if agent.python2 else 3, datetime.datetime(2020, 1, 2, 3, 4)),
            ('http://y/', None, '', -1, datetime.date(2020, 1, 2))]
    upload = agent.packet('UPLOAD_DB', 'phishing_log', rows)
    with socket.create_connection(address) as sock:
        sock.sendall(upload)
        reply, left = receive(sock)
        seen['upload'] = agent.check(reply)
        for i in range(0, len(upload), 97):  # the same bytes again, in small pieces
            sock.sendall(upload[i:i + 97])
        reply, left = receive(sock, left)
        seen['again'] = agent.check(reply)
        state = [(('update_time', '1970-01-01 00:00:00'),)]
        sock.sendall(agent.packet('DOLOAD_DB', 'black_list', state) + agent.packet('DOLOAD_DB', 'nothing', None))
        reply, left = receive(sock, left)
        content, word = agent.check(reply)
        seen['download'] = agent.repr(content), word
        reply, left = receive(sock, left)
        content, word = agent.check(reply)
        seen['nothing'] = agent.repr(content), word
        sock.sendall(agent.packet('UPLOAD_DB', 'phishing_log', [(1, 2), ()]))
        reply, left = receive(sock, left)
        seen['ragged'] = agent.check(reply)
    with socket.create_connection(address) as sock:
        agent.token_key += 'x'
        sock.sendall(agent.packet('DOLOAD_DB', 'black_list', None))
        agent.token_key = agent.token_key[:-1]
        reply, left = receive(sock)
        seen['refused'] = agent.check(reply)
        seen['closed'] = sock.recv(1) == b''
    return seen


def main():
    p = argparse.ArgumentParser()
    p.add_argument('--python2', action='store_true')
    p.add_argument('host')
    p.add_argument('port', type=int)
    p.add_argument('key', type=bytes.fromhex)
    p.add_argument('iv', type=bytes.fromhex)
    p.add_argument('token_key')
    p.add_argument('point')
    a = p.parse_args()
    agent = Agent(Wire(a.key, a.iv), a.token_key, a.point, a.python2)
    json.dump(session(agent, (a.host, a.port)), sys.stdout)


if __name__ == '__main__':
    main()
