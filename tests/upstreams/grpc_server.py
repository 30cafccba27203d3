"""A server of grpcio that answers with what it is sent, behind its own name. It prints its port."""

import sys
from concurrent import futures

import grpc

NAME = sys.argv[1].encode()
# What this server answers to everything, instead: a status and a message.
STATUS = grpc.StatusCode[sys.argv[2]] if len(sys.argv) > 2 else None


def judge(message, context):
    if STATUS is not None:
        context.abort(STATUS, "as it was told")
    if message == b"fail":
        context.abort(grpc.StatusCode.DATA_LOSS, "50 % of it: ä")


def unary(message, context):
    judge(message, context)
    context.set_trailing_metadata((("by", NAME.decode()),))
    return NAME + b":" + message


def client_stream(messages, context):
    return NAME + b":" + b"".join(messages)


def server_stream(message, context):
    judge(message, context)
    for number in range(int(message)):
        yield NAME + b":%d" % number


def bidi(messages, context):
    for message in messages:
        yield NAME + b":" + message


def check(_message, _context):
    return b"\x08\x01"


server = grpc.server(futures.ThreadPoolExecutor(max_workers=32), options=(("grpc.so_reuseport", 0),))
server.add_generic_rpc_handlers(
    (
        grpc.method_handlers_generic_handler(
            "tests.Echo",
            {
                "Unary": grpc.unary_unary_rpc_method_handler(unary),
                "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
                "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
                "Bidi": grpc.stream_stream_rpc_method_handler(bidi),
            },
        ),
        grpc.method_handlers_generic_handler(
            "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(check)}
        ),
    )
)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
# Whoever started it closes this.
sys.stdin.read()
server.stop(None)
