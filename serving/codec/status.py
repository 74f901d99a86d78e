"""JSON of status and metadata: protobuf's JSON form with default values printed.

Field names are those of the .proto files (get_model_status.proto, get_model_metadata.proto), int64 are
strings, enums go by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

from serving.specs import ModelSpec, VersionStatus

if TYPE_CHECKING:
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef


def status_entries(statuses: Iterable[VersionStatus]) -> list[dict[str, Any]]:
    """`model_version_status`: one object for each version, in the order given."""
    return [
        {
            "version": str(status.version),
            "state": status.state.name,
            "status": {"error_code": status.code.name, "error_message": status.message},
        }
        for status in statuses
    ]


def status_body(statuses: Iterable[VersionStatus]) -> bytes:
    """The answer's body of GET /v1/models/M."""
    return body({"model_version_status": status_entries(statuses)})


def metadata_body(spec: ModelSpec, signatures: Mapping[str, SignatureDef]) -> bytes:
    """The answer's body of GET /v1/models/M/metadata.

    Args:
      spec: the model and the version that answers.
      signatures: signature name -> SignatureDef.
    """
    # The key of the response's map, then the one field of the SignatureDefMap in it.
    definitions = {key: _message(signatures[key]) for key in sorted(signatures)}
    return body(
        {
            "model_spec": {"name": spec.name, "signature_name": "", "version": str(spec.version)},
            "metadata": {"signature_def": {"signature_def": definitions}},
        }
    )


def _message(message: SignatureDef) -> dict[str, Any]:
    fields: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return fields


def body(value: object) -> bytes:
    """The body of an answer of JSON values."""
    return json.dumps(value, indent=1, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
