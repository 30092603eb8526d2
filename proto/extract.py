"""Takes the v3 API out of the Envoy that the tests install, as descriptors: see proto/regenerate.sh.

The binary holds the descriptor of each .proto file it was built from, serialized. They are found by their name, the
first field, and end where no field of a FileDescriptorProto follows. Kept are the files of the API and what these use;
of them the fields, enums, oneofs and the rules of validation. An index by name is put in front, as a field of the set
that no other reader knows (src/config/descriptor.rs reads it).
"""

import re
import struct
import sys

from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError

# What a configuration, or a server of configurations, can speak of.
ROOTS = ("envoy/admin/v3/", "envoy/config/", "envoy/data/", "envoy/extensions/", "envoy/service/", "envoy/type/",
         "google/protobuf/", "source/server/", "udpa/type/", "xds/core/", "xds/data/", "xds/type/")
RULES = 1071  # validate.rules, of fields, and validate.required, of oneofs
KEPT_OPTIONS = {descriptor_pb2.FieldOptions: {2, RULES}, descriptor_pb2.OneofOptions: {RULES},
                descriptor_pb2.MessageOptions: {7, RULES}, descriptor_pb2.EnumOptions: {2}}  # packed, map_entry, allow_alias
WIRE_TYPES = {1: 2, 2: 2, 3: 2, 4: 2, 5: 2, 6: 2, 7: 2, 8: 2, 9: 2, 10: 0, 11: 0, 12: 2, 14: 0}
INDEX_FIELD = 1000
IS_ENUM = 1 << 31


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def put_varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def fields(data, at, end):
    """The fields of a message: number, where the field starts, where its content starts, where it ends."""
    while at < end:
        start = at
        tag, at = varint(data, at)
        kind = tag & 7
        if kind == 0:
            body, (_, at) = at, varint(data, at)
        elif kind == 2:
            length, body = varint(data, at)
            at = body + length
        else:
            body, at = at, at + {1: 8, 5: 4}[kind]
        yield tag >> 3, start, body, at


def end_of_file(data, start):
    at = start
    while True:
        try:
            tag, body = varint(data, at)
            if WIRE_TYPES.get(tag >> 3) != tag & 7 or (tag >> 3 == 1 and at != start):
                return at
            length, body = varint(data, body)
            at = body + length if tag & 7 == 2 else body
        except IndexError:
            return at


def files_of(binary):
    found = {}
    for match in re.finditer(rb"\x0a([\x06-\x7f])([A-Za-z0-9_./\-]+\.proto)", binary):
        start = match.start() + 2
        name = binary[start:start + match[1][0]]
        if not name.endswith(b".proto"):
            continue
        file = descriptor_pb2.FileDescriptorProto()
        try:
            file.ParseFromString(binary[match.start():end_of_file(binary, match.start())])
        except DecodeError:
            continue
        known = found.get(file.name)
        if file.name == name.decode() and (known is None or known.ByteSize() < file.ByteSize()):
            found[file.name] = file
    return found


def prune_options(message):
    options = message.options
    data = options.SerializeToString(deterministic=True)
    kept = KEPT_OPTIONS.get(type(options), ())
    parts = [data[start:end] for number, start, _, end in fields(data, 0, len(data)) if number in kept]
    message.ClearField("options")
    if parts:
        message.options.ParseFromString(b"".join(parts))


def prune_enum(enum):
    for part in (enum, *enum.value):
        prune_options(part)
    del enum.reserved_range[:], enum.reserved_name[:]


def prune_message(message, used):
    for part in (message, *message.field, *message.oneof_decl):
        prune_options(part)
    for field in message.field:
        first, *rest = field.name.split("_")
        if field.json_name == first + "".join(word[:1].upper() + word[1:] for word in rest):
            field.ClearField("json_name")
        if field.type_name:
            used.add(field.type_name)
    del message.extension[:], message.extension_range[:], message.reserved_range[:], message.reserved_name[:]
    for nested in message.nested_type:
        prune_message(nested, used)
    for enum in message.enum_type:
        prune_enum(enum)


def names_of(message, prefix):
    yield f"{prefix}.{message.name}"
    for nested in getattr(message, "nested_type", ()):
        yield from names_of(nested, f"{prefix}.{message.name}")
    for enum in getattr(message, "enum_type", ()):
        yield f"{prefix}.{message.name}.{enum.name}"


def pruned(files):
    """The files of the API and what they use, each behind those that it imports."""
    home, uses = {}, {}
    for file in files.values():
        used = uses[file.name] = set()
        for message in file.message_type:
            prune_message(message, used)
        for enum in file.enum_type:
            prune_enum(enum)
        for part in (*file.message_type, *file.enum_type):
            home.update(dict.fromkeys(names_of(part, f".{file.package}"), file.name))
    out, done = descriptor_pb2.FileDescriptorSet(), set()

    def add(name):
        if name in done:
            return
        done.add(name)
        file = files[name]
        imports = sorted({home[type_name] for type_name in uses[name]} - {name})
        for other in imports:
            add(other)
        kept = out.file.add(name=name, package=file.package, dependency=imports)
        if file.HasField("syntax"):
            kept.syntax = file.syntax
        kept.message_type.extend(file.message_type)
        kept.enum_type.extend(file.enum_type)

    for name in sorted(files):
        if name.startswith(ROOTS):
            add(name)
    return out


def fnv1a(text):
    value = 0xcbf29ce484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001b3 & 0xffffffffffffffff
    return value


def index_of(data):
    """A row per message and enum, by the hash of its full name: where its descriptor is, from the first file on."""
    rows = {}

    def row(prefix, start, end, is_enum):
        parts = list(fields(data, start, end))
        name = prefix + next(data[body:to].decode() for number, _, body, to in parts if number == 1)
        rows[name] = (fnv1a(name), start, end - start | (IS_ENUM if is_enum else 0))
        for number, _, body, to in () if is_enum else parts:
            if number in (3, 4):
                row(f"{name}.", body, to, number == 4)

    for _, _, start, end in fields(data, 0, len(data)):
        parts = list(fields(data, start, end))
        package = next((data[body:to].decode() for number, _, body, to in parts if number == 2), "")
        for number, _, body, to in parts:
            if number in (4, 5):
                row(f"{package}.", body, to, number == 5)
    assert len({hash_ for hash_, _, _ in rows.values()}) == len(rows), "two names have the same hash"
    return b"".join(struct.pack("<QII", *row) for row in sorted(rows.values()))


def main():
    binary, out = sys.argv[1:]
    with open(binary, "rb") as file:
        api = pruned(files_of(file.read()))
    data = api.SerializeToString(deterministic=True)
    index = index_of(data)
    with open(out, "wb") as file:
        file.write(put_varint(INDEX_FIELD << 3 | 2) + put_varint(len(index)) + index + data)
    print(f"{out}: {len(api.file)} files, {len(index) // 16} messages and enums, {len(index) + len(data)} bytes")


main()
