#!/usr/bin/python3
"""A client of the v2 wire, written from docs/protocol.md alone.

    modern.py vectors DIR                          check every file of protocol/testdata
    modern.py session HOST PORT POINT KEY_ID KEY   run a whole session, print what came as one line of JSON
    modern.py rows    HOST PORT POINT KEY_ID KEY   upload rows to the table odd, download them again
    modern.py hello   HOST PORT POINT KEY_ID KEY   only shake hands, print the outcome as one line of JSON

KEY is in base64. Needs python3-cryptography and python3-cbor2.
"""

import base64
import glob
import hashlib
import hmac
import json
import math
import os
import socket
import struct
import sys
import time

import cbor2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"\xc5SG\x02"
HELLO, WELCOME, DATA, REJECT = 1, 2, 3, 4
PING, UPLOAD, DOWNLOAD, RULES, FILE, SUBSCRIBE, GOAWAY, COMPARE, RESYNC, REPORT = range(1, 11)
MORE = 1
HANDSHAKE_MAX = 512
MALFORMED, BAD_MD5, TOO_LARGE, RECORD_REFUSED, UNEXPECTED, REJECTED = 3, 4, 5, 10, 12, 1


class WireError(Exception):
    """The connection is to be closed; status is the number of section 10."""

    def __init__(self, status, why):
        super().__init__(f"SG{status:04d} {why}")
        self.status = status


class Rejected(Exception):
    """The server sent REJECT."""

    def __init__(self, status, retry_after_ms):
        super().__init__(f"rejected: SG{status:04d}, retry after {retry_after_ms} ms")
        self.status, self.retry_after_ms = status, retry_after_ms


# Section 2: frames.


def frame(kind, body):
    head = MAGIC + struct.pack(">BBHI", kind, 0, 0, len(body)) + body
    return head + hashlib.md5(head).digest()


def body_length(head, limit):
    """The body's length, from as much of a header as is there; None when more is needed."""
    if head[:4] != MAGIC[: len(head)]:
        raise WireError(MALFORMED, "magic")
    if len(head) < 12:
        return None
    kind, flags, reserved, length = struct.unpack(">BBHI", head[4:12])
    if not HELLO <= kind <= REJECT or flags or reserved:
        raise WireError(MALFORMED, "header")
    if length > limit:
        raise WireError(TOO_LARGE, f"body of {length}")
    return length


def take_apart(whole, limit):
    """Type, header and body of one whole frame."""
    length = body_length(whole[:12], limit)
    if length is None or len(whole) != length + 28:
        raise WireError(MALFORMED, "not one whole frame")
    if hashlib.md5(whole[:-16]).digest() != whole[-16:]:
        raise WireError(BAD_MD5, "MD5")
    return whole[4], whole[:12], whole[12:-16]


# Section 6: CBOR.


def strict_loads(payload):
    """The map of a payload, or WireError. What is written again differs from what breaks the subset."""
    if payload == b"":
        return {}
    try:
        value = cbor2.loads(payload)
        again = cbor2.dumps(value)
    except Exception as e:  # cbor2 raises many kinds, and recursion may end it
        raise WireError(MALFORMED, f"CBOR: {e}") from e
    if again != payload or not isinstance(value, dict):
        raise WireError(MALFORMED, "CBOR outside the subset")
    keys = list(value)
    if any(type(k) is not int or k < 0 for k in keys) or keys != sorted(keys):
        raise WireError(MALFORMED, "keys")
    return value


def sql(value):
    """value, if it is a SQL value."""
    if value is None or type(value) in (str, bytes):
        return value
    if type(value) is int and -(2**63) <= value < 2**64:
        return value
    if type(value) is float and math.isfinite(value):
        return value
    raise WireError(MALFORMED, f"not a SQL value: {value!r}")


def unsigned(value, most=2**64 - 1):
    if type(value) is not int or not 0 <= value <= most:
        raise WireError(MALFORMED, f"not an unsigned integer up to {most}: {value!r}")
    return value


def text(value, most):
    if type(value) is not str or len(value.encode()) > most:
        raise WireError(MALFORMED, f"not a text of up to {most} bytes")
    return value


def boolean(value):
    if type(value) is not bool:
        raise WireError(MALFORMED, "not a boolean")
    return value


def array(value, most):
    if type(value) is not list:
        raise WireError(MALFORMED, "not an array")
    if len(value) > most:
        raise WireError(TOO_LARGE, "array too long")
    return value


def name(value):
    return text(value, 256)


def names(value):
    return [name(v) for v in array(value, 4096)]


def values(value):
    return [sql(v) for v in array(value, 2**21)]


def items(value, most=64):
    flat = array(value, 2 * most)
    if len(flat) % 2:
        raise WireError(MALFORMED, "name without a value")
    return [(name(n), sql(v)) for n, v in zip(flat[::2], flat[1::2])]


def counts(value):
    flat = array(value, 32)
    if len(flat) % 2:
        raise WireError(MALFORMED, "name without a number")
    found = [name(n) for n in flat[::2]]
    if any(a >= b for a, b in zip(found, found[1:])):
        raise WireError(MALFORMED, "names not ascending")
    return dict(zip(found, [unsigned(v) for v in flat[1::2]]))


def quarantined(value):
    rows = [array(v, 3) for v in array(value, 2**21)]
    if any(len(v) != 3 for v in rows):
        raise WireError(MALFORMED, "is not row, status, text")
    return [(unsigned(r, 2**32 - 1), unsigned(s, 65535), text(t, 1024)) for r, s, t in rows]


def indexes(value):
    return [unsigned(v, U32) for v in array(value, 2**21)]


def digest(value):
    if type(value) is not bytes or len(value) > 32:
        raise WireError(MALFORMED, "is not a digest")
    return value


U32, I63 = 2**32 - 1, 2**63 - 1

# Payloads by name: key, field, reader, zero value. A field whose zero value is None is left out when it is absent.
PAYLOADS = {
    "Welcome": [(1, "version", unsigned, 0), (2, "max_frame", lambda v: unsigned(v, 16 << 20), 0), (3, "max_in_flight", lambda v: unsigned(v, 65535), 0),
                (4, "keepalive_s", lambda v: unsigned(v, 65535), 0), (5, "clock_ms", lambda v: unsigned(v, I63), 0),
                (6, "server_id", lambda v: text(v, 64), ""), (7, "rules_version", unsigned, 0)],
    "PingReply": [(1, "rules_version", unsigned, 0), (2, "clock_ms", lambda v: unsigned(v, I63), 0)],
    "ErrorReply": [(1, "message", lambda v: text(v, 1024), ""), (2, "retry_after_ms", lambda v: unsigned(v, U32), 0),
                   (3, "seq", unsigned, None), (4, "state", items, None)],
    "GoAway": [(1, "reason", lambda v: text(v, 1024), ""), (2, "grace_ms", lambda v: unsigned(v, U32), 0)],
    "UploadRequest": [(1, "confirmed", unsigned, 0), (2, "table", name, ""), (3, "columns", names, []), (4, "values", values, []),
                      (5, "state", items, []), (6, "seen", unsigned, 0), (7, "after", unsigned, 0),
                      (8, "part", unsigned, 0)],
    "UploadReply": [(1, "applied", unsigned, 0), (2, "by_op", counts, {}), (3, "quarantined", quarantined, []), (4, "duplicate", boolean, False),
                    (5, "seq", unsigned, None), (6, "state", items, None), (7, "left_out", unsigned, 0), (8, "unknown", names, [])],
    "DownloadRequest": [(1, "table", name, ""), (2, "state", items, []), (3, "max_rows", lambda v: unsigned(v, U32), 0),
                        (4, "fields", names, []), (5, "held_digest", digest, None), (6, "held_bytes", lambda v: unsigned(v, 1 << 29), None)],
    "HeldRequest": [(1, "digest", digest, b"")],
    "HeldReply": [(1, "bytes", lambda v: unsigned(v, 1 << 29), 0)],
    "DownloadReply": [(1, "statement", lambda v: unsigned(v, U32), 0), (2, "columns", names, []), (3, "types", names, []), (4, "values", values, []),
                      (5, "state", items, []), (6, "more", boolean, False), (7, "total", unsigned, 0)],
    "CompareRequest": [(1, "table", name, ""), (2, "direction", name, ""), (3, "job", unsigned, 0), (4, "columns", names, []), (5, "from", values, []),
                       (6, "uppers", values, []), (7, "open", boolean, False), (8, "listed", boolean, False), (9, "rows", values, []), (10, "send", boolean, False)],
    "CompareReply": [(1, "columns", names, []), (2, "sums", values, []), (3, "missing", indexes, []), (4, "different", indexes, []),
                     (5, "extra", values, []), (6, "more", boolean, False), (7, "unknown", boolean, False), (8, "kept", boolean, False)],
    "ResyncRequest": [(1, "job", unsigned, 0), (2, "state", name, ""), (3, "compared", unsigned, 0), (4, "missing_there", unsigned, 0),
                      (5, "missing_here", unsigned, 0), (6, "different", unsigned, 0), (7, "note", lambda v: text(v, 1024), "")],
    "ResyncReply": [(1, "job", unsigned, 0), (2, "table", name, ""), (3, "direction", name, ""), (4, "where", lambda v: text(v, 4096), ""),
                    (5, "dry_run", boolean, False)],
    "ReportRequest": [(1, "software", lambda v: text(v, 1024), ""), (2, "database", lambda v: text(v, 1024), ""), (3, "clock_ms", lambda v: unsigned(v, I63), 0),
                      (4, "up_ms", lambda v: unsigned(v, I63), 0), (5, "disk_free", lambda v: unsigned(v, I63), 0), (6, "memory", lambda v: unsigned(v, I63), 0),
                      (7, "rules", lambda v: [fields_of("RuleReport", m) for m in array(v, 500)], [])],
    "RuleReport": [(1, "table", name, ""), (2, "direction", name, ""), (3, "rule", lambda v: unsigned(v, I63), 0), (4, "state", name, ""), (5, "code", name, ""),
                   (6, "column", name, ""), (7, "line", lambda v: unsigned(v, U32), 0), (8, "text", lambda v: text(v, 1024), "")]
    + [(9 + i, field, lambda v: unsigned(v, I63), 0) for i, field in enumerate(
        ["succeeded_ms", "failing_ms", "lag_ms", "backlog_rows", "backlog_bytes", "quarantined", "moved", "failures"])],
    "ReportReply": [(1, "every_ms", lambda v: unsigned(v, U32), 0)],
    "SubscribeRequest": [(1, "tables", names, []), (2, "runs", boolean, False)],
    "SubscribeReply": [(1, "rules_version", unsigned, 0), (2, "clock_ms", lambda v: unsigned(v, I63), 0), (3, "news", names, []),
                       (4, "polled", names, [])],
    "RunRequest": [(1, "table", name, ""), (2, "type", name, "")],
    "RunReply": [(1, "text", lambda v: text(v, 1024), ""), (2, "rows", unsigned, 0), (3, "batches", unsigned, 0), (4, "quarantined", unsigned, 0)],
    "RulesReply": [(1, "version", unsigned, 0), (2, "rules", lambda v: [items(row, 4096) for row in array(v, 2**21)], [])],
}


def depth(value):
    if isinstance(value, dict):
        return 1 + max((depth(v) for v in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


def unknown(value):
    """A value under a key that this client does not know: within the subset, whatever it is."""
    if depth(value) > 4:
        raise WireError(TOO_LARGE, "nested too deep")
    if isinstance(value, dict):
        for k, v in value.items():
            unknown(k), unknown(v)
    elif isinstance(value, list):
        for v in value:
            unknown(v)
    elif type(value) is not bool:
        sql(value)


def fields_of(kind, raw):
    """The fields by name of a map that was decoded."""
    if not isinstance(raw, dict):
        raise WireError(MALFORMED, "is not a map")
    fields = {field: reader(raw.pop(key)) if key in raw else zero for key, field, reader, zero in PAYLOADS[kind] if key in raw or zero is not None}
    for value in raw.values():
        unknown(value)
    if kind == "RuleReport" and not (fields["table"] and fields["state"]):
        raise WireError(MALFORMED, "no table or no state")
    return fields


def read(kind, payload):
    """A payload's fields by name."""
    fields = fields_of(kind, strict_loads(payload))
    if kind in ("UploadRequest", "DownloadRequest", "CompareRequest", "RunRequest") and not fields["table"]:
        raise WireError(MALFORMED, "no table")
    if "values" in fields and len(fields["values"]) % max(1, len(fields["columns"])) + (len(fields["values"]) if not fields["columns"] else 0):
        raise WireError(MALFORMED, "values are no whole rows")
    if kind == "UploadRequest" and fields["after"] and fields["values"]:
        raise WireError(MALFORMED, "a request that begins a run has rows")
    if kind == "DownloadReply" and len(fields["types"]) != len(fields["columns"]):
        raise WireError(MALFORMED, "types and columns")
    return fields


def rows(fields):
    width = max(1, len(fields["columns"]))
    return [fields["values"][i : i + width] for i in range(0, len(fields["values"]), width)]


# Section 3: the handshake.


def hkdf(ck, data):
    temp = hmac.digest(ck, data, "sha256")
    o1 = hmac.digest(temp, b"\x01", "sha256")
    o2 = hmac.digest(temp, o1 + b"\x02", "sha256")
    return o1, o2, hmac.digest(temp, o2 + b"\x03", "sha256")


class Noise:
    """The initiator of Noise_NNpsk0_25519_AESGCM_SHA256, step by step as in section 3.4."""

    def __init__(self, prologue, psk, private):
        self.h = self.ck = b"Noise_NNpsk0_25519_AESGCM_SHA256"
        self.k, self.n = b"", 0
        self.private = X25519PrivateKey.from_private_bytes(private)
        self.journal = []
        self.note()
        self.mix_hash(prologue)
        self.note()
        self.ck, temp, self.k = hkdf(self.ck, psk)
        self.mix_hash(temp)
        self.note()

    def note(self):
        self.journal.append((self.ck, self.h, self.k, self.n))

    def mix_hash(self, data):
        self.h = hashlib.sha256(self.h + data).digest()

    def mix_key(self, data):
        self.ck, self.k, _ = hkdf(self.ck, data)
        self.n = 0

    def nonce(self):
        self.n += 1
        return struct.pack(">IQ", 0, self.n - 1)

    def message1(self, payload):
        public = self.private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.mix_hash(public)
        self.mix_key(public)
        self.note()
        sealed = AESGCM(self.k).encrypt(self.nonce(), payload, self.h)
        self.mix_hash(sealed)
        self.note()
        return public + sealed

    def message2(self, message):
        if len(message) < 48:
            raise WireError(MALFORMED, "WELCOME too short")
        public, sealed = message[:32], message[32:]
        self.mix_hash(public)
        self.mix_key(public)
        self.note()
        try:
            self.mix_key(self.private.exchange(X25519PublicKey.from_public_bytes(public)))
            self.note()
            payload = AESGCM(self.k).decrypt(self.nonce(), sealed, self.h)
        except (InvalidTag, ValueError) as e:
            raise WireError(REJECTED, "WELCOME does not open") from e
        self.mix_hash(sealed)
        self.note()
        return payload

    def split(self):
        return hkdf(self.ck, b"")[:2]


class Session:
    """A client's connection without its socket: bytes to messages and back."""

    def __init__(self, point, key_id, key, private=None, software="pyclient", clock_ms=None):
        self.point, self.key_id = point.encode(), key_id
        self.software, self.clock_ms = software, int(time.time() * 1000) if clock_ms is None else clock_ms
        self.named = bytes([len(self.point)]) + self.point + struct.pack(">I", key_id)
        self.noise = Noise(b"syncgate/2" + self.named, key, private or os.urandom(32))
        self.welcome = None
        self.sent = self.received = 0

    def hello(self):
        payload = cbor2.dumps({1: 2, 2: 2, 3: self.software, 4: self.clock_ms})
        return frame(HELLO, self.named + self.noise.message1(payload))

    def limit(self):
        return self.welcome["max_frame"] if self.welcome else HANDSHAKE_MAX

    def seal(self, op, request_id, payload=b"", flags=0, status=0):
        plain = struct.pack(">BBH", op, flags, status) + request_id + payload
        head = MAGIC + struct.pack(">BBHI", DATA, 0, 0, len(plain) + 16)
        box = self.send.encrypt(struct.pack(">IQ", 0, self.sent), plain, head)
        self.sent += 1
        return head + box + hashlib.md5(head + box).digest()

    def receive(self, whole):
        """None for the WELCOME, else op, flags, status, request id, payload of a record."""
        kind, head, body = take_apart(whole, self.limit())
        if self.welcome is None and kind == REJECT:
            if len(body) != 6:
                raise WireError(MALFORMED, "REJECT")
            raise Rejected(*struct.unpack(">HI", body))
        if self.welcome is None and kind == WELCOME:
            return self.receive_welcome(body)
        if self.welcome is None or kind != DATA:
            raise WireError(UNEXPECTED, f"frame of type {kind}")
        if len(body) < 36:
            raise WireError(MALFORMED, "record too short")
        try:
            plain = self.recv.decrypt(struct.pack(">IQ", 0, self.received), body, head)
        except InvalidTag as e:
            raise WireError(RECORD_REFUSED, "record does not open") from e
        self.received += 1
        op, flags, status = struct.unpack(">BBH", plain[:4])
        if flags & ~MORE:
            raise WireError(MALFORMED, "flags")
        return op, flags, status, plain[4:20], plain[20:]

    def receive_welcome(self, body):
        welcome = read("Welcome", self.noise.message2(body))
        if welcome["version"] != 2 or welcome["max_frame"] < 4096 or not welcome["max_in_flight"] or not welcome["keepalive_s"]:
            raise WireError(MALFORMED, "WELCOME out of bounds")
        k1, k2 = self.noise.split()
        self.send, self.recv, self.welcome = AESGCM(k1), AESGCM(k2), welcome


# Section 11: the vectors.


def check_connection(path):
    with open(path, encoding="utf-8") as f:
        v = json.load(f)
    c = v["client"]
    s = Session(c["point_no"], c["key_id"], bytes.fromhex(c["secret"]), bytes.fromhex(c["ephemeral_private"]), c["software"], c["clock_ms"])
    hello = s.hello()
    first = struct.pack(">QQ", int(c["epoch"], 16), 1)
    for i, step in enumerate(v["steps"]):
        whole, message = bytes.fromhex(step["frame"]), step.get("message")
        where = f"{os.path.basename(path)} step {i}, {step['about']}"
        if message:
            fields = [message["op"], message["flags"], message["status"], bytes.fromhex(message["request_id"]), bytes.fromhex(message["payload"])]
        if step["from"] == "client":
            if message:
                made = s.seal(fields[0], fields[3], fields[4], fields[1], fields[2])
                assert made == whole, f"{where}: made {made.hex()}"
            elif step["outcome"] == "welcome":
                assert hello == whole, f"{where}: made {hello.hex()}"
            continue
        outcome, status, retry = "granted", 0, 0
        try:
            got = s.receive(whole)
            if got:
                outcome = "own" if got[0] == PING and got[3] == first else "reply"
                assert not message or list(got) == fields, f"{where}: got {got}"
        except WireError as e:
            outcome, status = "close", e.status
        except Rejected as e:
            outcome, status, retry = "rejected", e.status, e.retry_after_ms
        want = (step["outcome"], step["status"], step["retry_after_ms"])
        assert (outcome, status, retry) == want, f"{where}: {(outcome, status, retry)}, want {want}"
    if v.get("handshake"):
        for have, want in zip(s.noise.journal, v["handshake"]["steps"], strict=True):
            assert have == tuple(bytes.fromhex(want.get(x, "")) for x in ("ck", "h", "k")) + (want["n"],), f"{path}: {want['step']}"
        keys = [k.hex() for k in s.noise.split()]
        assert keys == [v["handshake"]["key_client_to_server"], v["handshake"]["key_server_to_client"]], path


def check_payload(path):
    with open(path, encoding="utf-8") as f:
        v = json.load(f)
    status = 0
    try:
        read(v["type"], bytes.fromhex(v["payload"]))
    except WireError as e:
        status = e.status
    # A payload that is refused for its subset and for a limit at once may be refused as either.
    assert status == v["status"] or 0 not in (status, v["status"]), f"{path}: status {status}, want {v['status']}"


def check_vectors(directory):
    checked = 0
    for pattern, check in (("session-*", check_connection), ("refused-*", check_connection), ("malformed-*", check_connection), ("payload/*", check_payload)):
        paths = sorted(glob.glob(os.path.join(directory, pattern + ".json")))
        assert paths, f"{directory}: no {pattern}.json"
        for path in paths:
            check(path)
        checked += len(paths)
    print(json.dumps({"checked": checked}))


# Section 12: a client in order.


class Connection:
    """A session on a socket."""

    def __init__(self, host, port, point, key_id, key):
        self.session = Session(point, int(key_id), base64.b64decode(key, validate=True))
        self.sock = socket.create_connection((host, int(port)), timeout=60)
        self.epoch, self.seq = int.from_bytes(os.urandom(8), "big") >> 1 | 1, 0  # 2^63 and up belong to the v1 wire
        self.waiting = {}  # replies so far by request id
        self.goaway = None
        self.sock.sendall(self.session.hello())
        self.session.receive(self.read_frame())

    def read_exactly(self, n):
        got = b""
        while len(got) < n:
            piece = self.sock.recv(n - len(got))
            if not piece:
                raise ConnectionError("the server closed")
            got += piece
        return got

    def read_frame(self):
        head = self.read_exactly(12)
        return head + self.read_exactly(body_length(head, self.session.limit()) + 16)

    def request(self, op, fields=None, request_id=None):
        """Send a request; its id."""
        if request_id is None:
            self.seq += 1
            request_id = struct.pack(">QQ", self.epoch, self.seq)
        self.waiting[request_id] = []
        self.sock.sendall(self.session.seal(op, request_id, cbor2.dumps(fields) if fields else b""))
        return request_id

    def take(self):
        """Take one frame in."""
        op, flags, status, request_id, payload = self.session.receive(self.read_frame())
        if request_id[:8] == bytes(8) and op == PING:
            self.sock.sendall(self.session.seal(PING, request_id))
        elif op == GOAWAY:
            self.goaway = read("GoAway", payload)
        elif request_id in self.waiting:
            self.waiting[request_id].append((op, flags, status, payload))

    def replies(self, request_id, kind):
        """All replies of a request, read as kind, or as an error."""
        while not self.waiting[request_id] or self.waiting[request_id][-1][1] & MORE:
            self.take()
        return [{"status": s} | read(kind if s == 0 else "ErrorReply", p) for _, _, s, p in self.waiting.pop(request_id)]

    def ask(self, op, fields, kind, request_id=None):
        return self.replies(self.request(op, fields, request_id), kind)


def jsonable(value):
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, (list, tuple)):
        return [jsonable(v) for v in value]
    if isinstance(value, dict):
        return {k: jsonable(v) for k, v in value.items()}
    return value


AWKWARD = [
    [1, None, "", b"", 0.1],
    [-(2**63), 2**64 - 1, "it's \"q\" \\ % \n \0 中 \U0001f600", bytes(range(256)), -0.0],
    [23, 24, "0000-00-00 00:00:00", b"\xff\xfe", 1.7976931348623157e308],
    [255, 65536, "99999999999999999999.000000001", None, 5e-324],
]


def run_session(connection):
    c, out = connection, {}
    out["welcome"] = c.session.welcome
    out["ping"] = c.ask(PING, None, "PingReply")
    outbox = 0x0102030405060708
    columns = ["a", "b", "c", "d", "e"]
    upload = {2: "awkward", 3: columns, 4: [v for row in AWKWARD for v in row]}
    first = struct.pack(">QQ", outbox, 1)
    out["upload"] = c.ask(UPLOAD, upload, "UploadReply", first)
    out["upload_again"] = c.ask(UPLOAD, upload, "UploadReply", first)
    out["upload_other"] = c.ask(UPLOAD, upload | {2: "other"}, "UploadReply", first)
    large = {1: 1, 2: "large", 3: ["n", "text"], 4: [v for n in range(7000) for v in (n, "x" * 100)]}
    # Two in flight; the replies may come in either order.
    second = c.request(UPLOAD, large, struct.pack(">QQ", outbox, 2))
    ping = c.request(PING)
    out["ping_in_flight"] = c.replies(ping, "PingReply")
    out["upload_large"] = c.replies(second, "UploadReply")
    parts = c.ask(DOWNLOAD, {1: "awkward", 2: ["since", "2026-01-01"], 3: 0}, "DownloadReply")
    out["download"] = {"parts": len(parts), "rows": jsonable([r for p in parts for r in rows(p)]), "same": [r for p in parts for r in rows(p)] == AWKWARD,
                       "types": parts[0]["types"], "state": jsonable(parts[-1]["state"]), "more": parts[-1]["more"], "total": parts[-1]["total"]}
    out["download_nothing"] = c.ask(DOWNLOAD, {1: "nothing"}, "DownloadReply")
    out["malformed"] = c.ask(DOWNLOAD, {3: 1}, "DownloadReply")
    out["rules"] = jsonable(c.ask(RULES, None, "RulesReply"))
    out["file"] = c.ask(FILE, None, "PingReply")
    out["op_99"] = c.ask(99, None, "PingReply")
    # The server of the test answers, tells of a change, pings, and goes away.
    sub = c.request(SUBSCRIBE)
    while c.goaway is None:
        c.take()
    out["subscribe"] = [read("PingReply", p) | {"more": bool(f & MORE), "status": s} for _, f, s, p in c.waiting[sub]]
    out["goaway"] = c.goaway
    return out


ODD = [  # id, text, bytes, decimal, double, unsigned, time
    [1, "it's \"q\" \\ % \n \0 中 \U0001f600", bytes(range(256)), "99999999999999999999.0000000001", 0.1, 2**64 - 1, "2026-01-02 03:04:05.000006"],
    [-(2**63), "", b"", "-0.0000000001", -1.7976931348623157e308, 0, "1000-01-01 00:00:00.000000"],
    [2**63 - 1, None, None, None, None, None, None],
]


def run_rows(c):
    """Rows to a real server and back from it."""
    upload = {2: "odd", 3: ["id", "t", "b", "d", "f", "u", "w"], 4: [v for row in ODD for v in row]}
    request_id = struct.pack(">QQ", c.epoch ^ 2, 1)
    first, again = c.ask(UPLOAD, upload, "UploadReply", request_id), c.ask(UPLOAD, upload, "UploadReply", request_id)
    got, state, asked = [], [], 0
    while asked < 10:
        parts = c.ask(DOWNLOAD, {1: "odd", 2: state, 3: 2}, "DownloadReply")
        if parts[-1]["status"]:
            break
        got += [dict(zip(p["columns"], row)) for p in parts for row in rows(p)]
        state = [v for item in parts[-1]["state"] for v in item]
        asked += 1
        if not parts[-1]["more"]:
            break
    want = [dict(zip(upload[3], row)) for row in ODD]
    same = sorted(got, key=lambda r: r["id"]) == sorted(want, key=lambda r: r["id"])
    return {"upload": first, "again": again, "same": same, "asked": asked, "got": [] if same else jsonable(got), "last": jsonable(parts[-1])}


RUNS = {"session": run_session, "rows": run_rows, "hello": lambda c: {"welcome": c.session.welcome}}


def main(argv):
    if argv[1] == "vectors":
        check_vectors(argv[2])
        return
    start = time.monotonic()
    try:
        connection = Connection(*argv[2:7])
    except Rejected as e:
        print(json.dumps({"rejected": e.status, "retry_after_ms": e.retry_after_ms, "ms": int(1000 * (time.monotonic() - start))}))
        return
    print(json.dumps(RUNS[argv[1]](connection)))


if __name__ == "__main__":
    main(sys.argv)
