#!/usr/bin/python3
"""A small model of the original server, for bench-original: a thread for each request, one connection to the database, the
rule read for each request, its text filled by %, and a statement and a commit for each row. It has no ledger and no
quarantine. Usage: server.py SOCKET DATABASE KEY TOKEN_KEY; it prints its port."""
import datetime
import hashlib
import socketserver
import sys
import threading
from decimal import Decimal

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
import MySQLdb

SOCKET, DATABASE, KEY, TOKEN_KEY = sys.argv[1:]
END = b'\n\r\n'
NAMES = {'__builtins__': {}, 'datetime': datetime, 'Decimal': Decimal, 'None': None, 'True': True, 'False': False}
lock = threading.Lock()
db = MySQLdb.connect(unix_socket=SOCKET, user='root', db=DATABASE, charset='utf8mb4')


def aes():
    return Cipher(algorithms.AES(KEY.encode()), modes.CBC(KEY.encode()))


def unpack(packet):
    payload = packet[16:-16]
    if packet[:16] + packet[-16:] != hashlib.md5(payload).hexdigest().encode():
        raise ValueError('MD5')
    d = aes().decryptor()
    return eval((d.update(bytes.fromhex(payload.decode())) + d.finalize()).rstrip(b'\0').decode(), NAMES)


def pack(text):
    data = text.encode()
    e = aes().encryptor()
    payload = (e.update(data + b'\0' * (16 - len(data) % 16)) + e.finalize()).hex().encode()
    digits = hashlib.md5(payload).hexdigest().encode()
    return digits[:16] + payload + digits[16:] + END


def token(content, at):
    return hashlib.md5((str(content) + at + TOKEN_KEY).encode()).hexdigest()


def escaped(value):
    return value.replace("'", "\\'").replace('"', '\\"') if isinstance(value, str) else value


def run(point, business):
    cursor = db.cursor()
    up = business['Type'] == 'UPLOAD_DB'
    cursor.execute("select sync_sql from sync_control where sync_table = '%s' and sync_type = '%s' and sync_user = 'server' "
                   "and sync_point_no in ('%s', '*')" % (business['Table_Name'], 'upload' if up else 'download', point))
    statements = eval(cursor.fetchone()[0], NAMES)
    if up:
        for row in business['Content']:
            for statement in statements['downside']:
                cursor.execute((statement % tuple(escaped(v) for v in row)).replace("'None'", 'NULL'))
            db.commit()
        return None
    lists = []
    for statement in statements['upside']:
        cursor.execute(statement)
        lists.append(list(cursor.fetchall()))
    db.commit()
    return lists


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        buf = b''
        while True:
            while END not in buf:
                piece = self.request.recv(65536)
                if not piece:
                    return
                buf += piece
            packet, buf = buf.split(END, 1)
            t = threading.Thread(target=self.answer, args=(packet,))
            t.start()
            t.join()

    def answer(self, packet):
        asked = unpack(packet)
        business, info = asked['Business'], asked['Info_Status']
        if info['Security_Token'] != token(business['Content'], info['Time']):
            raise ValueError('token')
        with lock:
            content = run(asked['userid'], business)
        at = str(datetime.datetime.utcnow())
        self.request.sendall(pack(str({
            'userid': asked['userid'], 'Business': dict(business, Content=content),
            'Error': {'Error_Flag': False, 'Error_Type': None, 'Error_Info': None},
            'Info_Status': {'Info_Type': 'REPLY', 'Security_Token': token(content, at), 'Time': at, 'Is_End': True}})))


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


with Server(('127.0.0.1', 0), Handler) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
