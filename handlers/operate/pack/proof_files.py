"""The files with which an auditor checks that what a pack was made of is in the sealed log."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from handlers.core.evidence.pack.sealed import Proofs
    from handlers.core.evidence.proofs import Proof

#: What comes after the key of the object in the name of its proof.
_ENDING: Final = ".tlog-proof"
_KEY_SAYS: Final = """\
# The public key of the sealed log, as it was when this pack was made. The checkpoint and the proofs are worth what this
# key is worth: compare the line below with the one that was noted at the first deployment, and kept elsewhere.
"""
_README: Final = """\
checkpoint    the size and the root of the sealed log, with the log's signature (c2sp.org/tlog-checkpoint)
log.key       the public key of the log; compare it with the one that was noted at the first deployment
proofs.zip    a proof for each object of objects.csv that is in the log (c2sp.org/tlog-proof), named as the object

Each proof holds the key, the version, the time, the size and the SHA-256 of its object as they were sealed, and the
checkpoint. Nothing of AWS is needed to check one:

    unzip proofs.zip -d proofs
    joinguard verify --proof proofs/KEY.tlog-proof --key log.key
    joinguard verify --proof proofs/KEY.tlog-proof --key log.key --object OBJECT

The last one compares an object, as it was downloaded from the evidence bucket, too. The column "proof" of objects.csv
says which objects have a proof. For any other object: joinguard proof KEY
"""


def proof_files(proofs: Proofs) -> Iterator[tuple[str, bytes]]:
    """Yield the checkpoint, the key, the proofs and what to do with them, with their names."""
    yield "proofs/checkpoint", proofs.note
    yield "proofs/log.key", (_KEY_SAYS + "".join(f"{each}\n" for each in proofs.keys)).encode()
    yield "proofs/README.txt", _README.encode()
    yield "proofs/proofs.zip", _archive(proofs.of)


def _archive(proofs: Mapping[str, Proof]) -> bytes:
    output = io.BytesIO()
    # Hashes hardly compress: compression would save a fifth of the size, and take longer than the rest of this.
    with zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as archive:
        for key, proof in proofs.items():
            # Its time is that of every entry without one, so that the same proofs make the same bytes.
            entry = zipfile.ZipInfo(key + _ENDING)
            entry.external_attr = 0o600 << 16
            archive.writestr(entry, proof.encode())
    return output.getvalue()
