"""Attributes that say whether a key can leave its token, read so that nothing is not taken for "no".

python-pkcs11 reads a boolean of no length as false, and CKA_EXTRACTABLE that is not given would rule export out.
"""

from pkcs11 import Attribute
from pkcs11.attributes import AttributeMapper

from rolekey.exportability import RULES_EXPORT_OUT

STRICT = {name: Attribute[name.removeprefix("CKA_")] for name in RULES_EXPORT_OUT["token"]}
# CK_FALSE and CK_TRUE; the standard knows no other CK_BBOOL.
_BOOLEANS = {b"\0": False, b"\1": True}


def strict_attributes() -> AttributeMapper:
    """What a session reads attributes with: of those above, anything but one byte of 0 or 1 is None."""
    mapper = AttributeMapper()
    for attribute in STRICT.values():
        pack, _ = mapper.attribute_types[attribute]
        mapper.register_handler(attribute, pack, _BOOLEANS.get)
    return mapper
