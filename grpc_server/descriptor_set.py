"""`python -m grpc_server.descriptor_set FILE`: writes the descriptors with which Envoy serves JSON.

They come from the generated code that the server itself uses, so the two always agree. The serving
process does not import this module.
"""

import sys
from pathlib import Path

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.rpc import error_details_pb2, status_pb2

from prediction.v1 import prediction_service_pb2

# Error details are packed messages; Envoy can only print them if it knows their types.
_ROOTS = (
    prediction_service_pb2.DESCRIPTOR,
    status_pb2.DESCRIPTOR,
    error_details_pb2.DESCRIPTOR,
)


def build_descriptor_set() -> FileDescriptorSet:
    """Return the service's file and the error details, each after the files that it imports."""
    file_by_name: dict[str, FileDescriptor] = {}
    for root in _ROOTS:
        _add_with_imports(root, file_by_name)
    descriptor_set = FileDescriptorSet()
    for file in file_by_name.values():
        file.CopyToProto(descriptor_set.file.add())
    return descriptor_set


def _add_with_imports(
    file: FileDescriptor, file_by_name: dict[str, FileDescriptor]
) -> None:
    if file.name not in file_by_name:
        for imported in file.dependencies:
            _add_with_imports(imported, file_by_name)
        file_by_name[file.name] = file


def main(path: Path) -> None:
    """Write the descriptor set to the file at `path`."""
    path.write_bytes(build_descriptor_set().SerializeToString())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
