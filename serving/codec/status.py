"""Status and metadata bodies of the REST interface: protobuf's JSON form, defaults printed.

Field names are those of the .proto files (get_model_status.proto, get_model_metadata.proto), int64 are
strings, enums go by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf import json_format

from serving.specs import VersionStatus


def status_entries(statuses: Iterable[VersionStatus]) -> list[dict[str, Any]]:
    """`model_version_status`: one object a version, in the order given."""
    return [
        {
            "version": str(status.version),
            "state": status.state.name,
            "status": {"error_code": status.code.name, "error_message": status.message},
        }
        for status in statuses
    ]


def status_body(statuses: Iterable[VersionStatus]) -> bytes:
    """GET /v1/models/M."""
    return body({"model_version_status": status_entries(statuses)})


def metadata_body(name: str, version: int, signatures: Mapping[str, Any]) -> bytes:
    """GET /v1/models/M/metadata.

    Args:
      name: the model's.
      version: the version that was found.
      signatures: signature name -> SignatureDef.
    """
    # The key of the response's map, then the one field of the SignatureDefMap in it.
    definitions = {key: _message(signatures[key]) for key in sorted(signatures)}
    return body(
        {
            "model_spec": {"name": name, "signature_name": "", "version": str(version)},
            "metadata": {"signature_def": {"signature_def": definitions}},
        }
    )


def _message(message: Any) -> dict[str, Any]:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def body(value: Any) -> bytes:
    """Any answer of plain values."""
    return json.dumps(value, indent=1, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
