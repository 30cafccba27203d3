"""The certificate that all proxies serve: ECDSA on P-256, made for the run."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from .upstream import HOST


@dataclass(frozen=True)
class Certificate:
    """Its files."""

    chain: Path
    key: Path
    #: Chain and key in one file.
    both: Path

    @classmethod
    def of(cls, folder: Path) -> "Certificate":
        """The run's certificate; the first who asks has it made."""
        made = cls(folder / "certificate.pem", folder / "certificate.key", folder / "certificate-both.pem")
        if not made.both.exists():
            command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                       "-days", "2", "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}",
                       "-keyout", str(made.key), "-out", str(made.chain)]
            subprocess.run(command, check=True, capture_output=True)
            made.both.write_bytes(made.chain.read_bytes() + made.key.read_bytes())
        return made
