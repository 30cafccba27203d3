"""How schemathesis sends the media types that it does not know: a text goes as it is."""

import schemathesis


@schemathesis.serializer("application/toml")
def toml(context, value):
    """A configuration file, which the description says is a text."""
    text = value if isinstance(value, str) else str(value)
    # Half a surrogate pair is a character to Python, but has no bytes.
    return text.encode("utf-8", "replace")
