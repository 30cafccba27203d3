"""A client of grpcio.

`loop ADDRESS` makes calls of all four kinds until its input ends, and prints how many there were, by which servers, and what
went wrong. `call ADDRESS MESSAGE` makes one and prints its status and what it brought.
"""

import json
import sys
import threading

import grpc


def stubs(channel):
    return (
        channel.unary_unary("/tests.Echo/Unary"),
        channel.stream_unary("/tests.Echo/ClientStream"),
        channel.unary_stream("/tests.Echo/ServerStream"),
        channel.stream_stream("/tests.Echo/Bidi"),
    )


def name(answer, rest):
    server, _, text = answer.partition(b":")
    if text != rest:
        raise ValueError(f"{answer} is not the answer to {rest}")
    return server.decode()


def round_of(stubs, number):
    """One call of each kind; answers the servers."""
    unary, client_stream, server_stream, bidi = stubs
    text = b"%d" % number
    names = [name(unary(text, timeout=30), text)]
    names.append(name(client_stream(iter([text] * 3), timeout=30), text * 3))
    answers = list(server_stream(b"5", timeout=30))
    if len(answers) != 5:
        raise ValueError(f"{len(answers)} of 5 answers came")
    names += [name(answer, b"%d" % at) for at, answer in enumerate(answers)]
    large = text * 20_000
    answers = list(bidi(iter([text, large, text]), timeout=30))
    names += [name(answer, sent) for answer, sent in zip(answers, [text, large, text], strict=True)]
    return set(names)


def loop(address):
    over, lock = threading.Event(), threading.Lock()
    rounds, names, wrong = [0], set(), []

    def work():
        with grpc.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),)) as channel:
            calls = stubs(channel)
            while not over.is_set():
                try:
                    found = round_of(calls, rounds[0])
                except (grpc.RpcError, ValueError) as error:
                    with lock:
                        wrong.append(str(error))
                    continue
                with lock:
                    rounds[0] += 1
                    names.update(found)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    print("begun", flush=True)
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()
    return {"rounds": rounds[0], "names": sorted(names), "wrong": wrong[:5]}


def call(address, message):
    with grpc.insecure_channel(address) as channel:
        try:
            answer, told = stubs(channel)[0].with_call(message.encode(), timeout=30)
        except grpc.RpcError as error:
            return {"status": error.code().name, "text": error.details()}
        return {"status": told.code().name, "text": answer.decode(), "trailers": dict(told.trailing_metadata())}


print(json.dumps(loop(sys.argv[2]) if sys.argv[1] == "loop" else call(sys.argv[2], sys.argv[3])))
