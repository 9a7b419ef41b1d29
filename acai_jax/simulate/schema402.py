"""The names and types of ZTF's alert schema 4.02, from which the Avro schema is built.

Source: https://github.com/ZwickyTransientFacility/ztf-avro-alert
"""

from typing import Any, Final

SCHEMA_VERSION: Final = "4.02"

# name:type, "?" for nullable, in the packet's order
_CANDIDATE: Final = """
jd:double fid:int pid:long diffmaglim:float? pdiffimfilename:string? programpi:string?
programid:int candid:long isdiffpos:string tblid:long? nid:int? rcid:int? field:int? xpos:float?
ypos:float? ra:double dec:double magpsf:float sigmapsf:float chipsf:float? magap:float?
sigmagap:float? distnr:float? magnr:float? sigmagnr:float? chinr:float? sharpnr:float? sky:float?
magdiff:float? fwhm:float? classtar:float? mindtoedge:float? magfromlim:float? seeratio:float?
aimage:float? bimage:float? aimagerat:float? bimagerat:float? elong:float? nneg:int? nbad:int?
rb:float? ssdistnr:float? ssmagnr:float? ssnamenr:string? sumrat:float? magapbig:float?
sigmagapbig:float? ranr:double decnr:double sgmag1:float? srmag1:float? simag1:float?
szmag1:float? sgscore1:float? distpsnr1:float? ndethist:int ncovhist:int jdstarthist:double?
jdendhist:double? scorr:double? tooflag:int? objectidps1:long? objectidps2:long? sgmag2:float?
srmag2:float? simag2:float? szmag2:float? sgscore2:float? distpsnr2:float? objectidps3:long?
sgmag3:float? srmag3:float? simag3:float? szmag3:float? sgscore3:float? distpsnr3:float?
nmtchps:int rfid:long jdstartref:double jdendref:double nframesref:int rbversion:string
dsnrms:float? ssnrms:float? dsdiff:float? magzpsci:float? magzpsciunc:float? magzpscirms:float?
nmatches:int clrcoeff:float? clrcounc:float? zpclrcov:float? zpmed:float? clrmed:float?
clrrms:float? neargaia:float? neargaiabright:float? maggaia:float? maggaiabright:float?
exptime:float? drb:float? drbversion:string
"""
_PREVIOUS: Final = """
jd:double fid:int pid:long diffmaglim:float? pdiffimfilename:string? programpi:string?
programid:int candid:long? isdiffpos:string? tblid:long? nid:int? rcid:int? field:int?
xpos:float? ypos:float? ra:double? dec:double? magpsf:float? sigmapsf:float? chipsf:float?
magap:float? sigmagap:float? distnr:float? magnr:float? sigmagnr:float? chinr:float?
sharpnr:float? sky:float? magdiff:float? fwhm:float? classtar:float? mindtoedge:float?
magfromlim:float? seeratio:float? aimage:float? bimage:float? aimagerat:float? bimagerat:float?
elong:float? nneg:int? nbad:int? rb:float? ssdistnr:float? ssmagnr:float? ssnamenr:string?
sumrat:float? magapbig:float? sigmagapbig:float? ranr:double? decnr:double? scorr:double?
magzpsci:float? magzpsciunc:float? magzpscirms:float? clrcoeff:float? clrcounc:float?
rbversion:string
"""
_FORCED: Final = """
field:int? rcid:int? fid:int pid:long rfid:long sciinpseeing:float? scibckgnd:float?
scisigpix:float? magzpsci:float? magzpsciunc:float? magzpscirms:float? clrcoeff:float?
clrcounc:float? exptime:float? adpctdif1:float? adpctdif2:float? diffmaglim:float? programid:int
jd:double forcediffimflux:float? forcediffimfluxunc:float? procstatus:string? distnr:float?
ranr:double decnr:double magnr:float? sigmagnr:float? chinr:float? sharpnr:float?
"""


def alert_schema() -> dict[str, Any]:
    """The Avro schema of a whole alert packet.

    Example:
        >>> [field["name"] for field in alert_schema()["fields"]][:4]
        ['schemavsn', 'publisher', 'objectId', 'candid']
    """
    cutout = _record("cutout", "fileName:string stampData:bytes")
    fields = [
        *avro_fields("schemavsn:string publisher:string objectId:string candid:long"),
        {"name": "candidate", "type": _record("candidate", _CANDIDATE)},
        optional("prv_candidates", {"type": "array", "items": _record("prv_candidate", _PREVIOUS)}),
        optional("fp_hists", {"type": "array", "items": _record("fp_hist", _FORCED)}),
        optional("cutoutScience", cutout),
        optional("cutoutTemplate", "ztf.alert.cutout"),
        optional("cutoutDifference", "ztf.alert.cutout"),
    ]
    return {
        "type": "record",
        "name": "alert",
        "namespace": "ztf",
        "version": SCHEMA_VERSION,
        "fields": fields,
    }


def previous_fields() -> tuple[str, ...]:
    """The fields that an earlier detection has in `prv_candidates`."""
    return tuple(field["name"] for field in avro_fields(_PREVIOUS))


def _record(name: str, fields: str) -> dict[str, Any]:
    return {"type": "record", "name": f"ztf.alert.{name}", "fields": avro_fields(fields)}


def avro_fields(text: str) -> list[dict[str, Any]]:
    """The fields of a record from words such as name:type, with "?" for nullable.

    Example:
        >>> avro_fields("fid:int rb:float?")[1]
        {'name': 'rb', 'type': ['null', 'float'], 'default': None}
    """
    found = []
    for item in text.split():
        name, _, kind = item.partition(":")
        if kind.endswith("?"):
            found.append(optional(name, kind[:-1]))
        else:
            found.append({"name": name, "type": kind})
    return found


def optional(name: str, kind: Any) -> dict[str, Any]:
    """A field that may be null."""
    return {"name": name, "type": ["null", kind], "default": None}
