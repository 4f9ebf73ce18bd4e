#!/usr/bin/env python3
"""A scoring service in Python (pyzmq, msgpack): docs/messages.md is all it takes.
Term "short": minus the share of 200 characters that a completion uses.
    examples/reward_service.py tcp://127.0.0.1:7001
then  --set net.rewards=tcp://127.0.0.1:7001 --set reward.terms=short:1.0"""
import struct, sys
import msgpack, zmq

VERSION, TERMS = "short-1", ["short"]

def answer(m):
    if m["type"] == "hello":
        return {"type": "ready", "scorer_version": VERSION, "terms": TERMS}
    if m["type"] == "score":
        values = [-len(text) / 200 for text in m["texts"]]
        return {"type": "scores", "step": m["step"], "slot": m["slot"], "scorer_version": VERSION,
                "terms": TERMS, "values": struct.pack("<%df" % len(values), *values)}
    return {"type": "refuse", "about": m["type"], "step": 0, "slot": 0, "reason": "only hello and score are known here"}

socket = zmq.Context().socket(zmq.ROUTER)
socket.setsockopt(zmq.MAXMSGSIZE, 64 << 20)
socket.bind(sys.argv[1])
while True:
    peer, frame = socket.recv_multipart()
    m = msgpack.unpackb(frame)
    if m["protocol"] == 1:
        socket.send_multipart([peer, msgpack.packb({"protocol": 1, "run": m["run"], **answer(m)})])
