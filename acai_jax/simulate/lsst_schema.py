"""The names and types of LSST's alert schema 11.1, from which the Avro schema is built.

Source: https://github.com/lsst/alert_packet
"""

from typing import Any, Final

from acai_jax.simulate.schema402 import avro_fields, optional
from acai_jax.surveys.lsst import LSST

BANDS: Final = tuple(LSST.bands)
_NAMESPACE: Final = "lsst.v11_1"

# name:type, "?" for nullable, in the packet's order
_SOURCE: Final = """
diaSourceId:long visit:long detector:int diaObjectId:long? ssObjectId:long? parentDiaSourceId:long?
midpointMjdTai:double exposureTime:float? ra:double raErr:float? dec:double decErr:float?
ra_dec_Cov:float? x:float xErr:float? y:float yErr:float? centroid_flag:boolean? apFlux:float?
apFluxErr:float? apFlux_flag:boolean? apFlux_flag_apertureTruncated:boolean? isNegative:boolean?
snr:float? psfFlux:float? psfFluxErr:float? psfLnL:float? psfChi2:float? psfNdata:int
psfFlux_flag:boolean? psfFlux_flag_edge:boolean? psfFlux_flag_noGoodPixels:boolean? trailFlux:float?
trailFluxErr:float? trailRa:double? trailRaErr:float? trailDec:double? trailDecErr:float?
trailLength:float? trailLengthErr:float? trailAngle:float? trailAngleErr:float? trailChi2:float?
trailNdata:int trailAlgorithm:int? trail_flag_edge:boolean? trail_flag:boolean?
dipoleMeanFlux:float? dipoleMeanFluxErr:float? dipoleFluxDiff:float? dipoleFluxDiffErr:float?
dipoleLength:float? dipoleAngle:float? dipoleChi2:float? dipoleNdata:int scienceFlux:float?
scienceFluxErr:float? forced_PsfFlux_flag:boolean? forced_PsfFlux_flag_edge:boolean?
forced_PsfFlux_flag_noGoodPixels:boolean? templateFlux:float? templateFluxErr:float? ixx:float?
iyy:float? ixy:float? ixxPSF:float? iyyPSF:float? ixyPSF:float? shape_flag:boolean?
shape_flag_no_pixels:boolean? shape_flag_not_contained:boolean? shape_flag_parent_source:boolean?
extendedness:float? reliability:float? reliabilityVersion:string? band:string? isDipole:boolean?
dipoleFitAttempted:boolean? timeProcessedMjdTai:double timeWithdrawnMjdTai:double? bboxSize:int
pixelFlags:boolean? pixelFlags_bad:boolean? pixelFlags_cr:boolean? pixelFlags_crCenter:boolean?
pixelFlags_edge:boolean? pixelFlags_nodata:boolean? pixelFlags_nodataCenter:boolean?
pixelFlags_interpolated:boolean? pixelFlags_interpolatedCenter:boolean? pixelFlags_offimage:boolean?
pixelFlags_saturated:boolean? pixelFlags_saturatedCenter:boolean? pixelFlags_suspect:boolean?
pixelFlags_suspectCenter:boolean? pixelFlags_streak:boolean? pixelFlags_streakCenter:boolean?
pixelFlags_injected:boolean? pixelFlags_injectedCenter:boolean?
pixelFlags_injected_template:boolean? pixelFlags_injected_templateCenter:boolean?
glint_trail:boolean?
"""
_FORCED: Final = """
diaForcedSourceId:long diaObjectId:long ra:double dec:double visit:long detector:int psfFlux:float?
psfFluxErr:float? midpointMjdTai:double scienceFlux:float? scienceFluxErr:float? band:string?
timeProcessedMjdTai:double timeWithdrawnMjdTai:double?
"""
_OBJECT: Final = """
diaObjectId:long validityStartMjdTai:double ra:double raErr:float? dec:double decErr:float?
ra_dec_Cov:float?
"""
# groups of fields that each band has
_PER_BAND: Final = (
    "psfFluxMean:float? psfFluxMeanErr:float? psfFluxSigma:float? psfFluxNdata:int "
    "fpFluxMean:float? fpFluxMeanErr:float?",
    "scienceFluxMean:float? scienceFluxMeanErr:float?",
    "psfFluxMin:float? psfFluxMax:float? psfFluxMaxSlope:float? psfFluxErrMean:float?",
)
_DETECTIONS: Final = "firstDiaSourceMjdTai:double? lastDiaSourceMjdTai:double? nDiaSources:int"
_KNOWN: Final = """
diaSourceId:long ssObjectId:long designation:string? eclLambda:double eclBeta:double galLon:double
galLat:double elongation:float? phaseAngle:float? topoRange:float? topoRangeRate:float?
helioRange:float? helioRangeRate:float? ephRa:double? ephDec:double? ephVmag:float? ephRate:float?
ephRateRa:float? ephRateDec:float? ephOffset:float? ephOffsetRa:double? ephOffsetDec:double?
ephOffsetAlongTrack:float? ephOffsetCrossTrack:float? helio_x:float? helio_y:float? helio_z:float?
helio_vx:float? helio_vy:float? helio_vz:float? helio_vtot:float? topo_x:float? topo_y:float?
topo_z:float? topo_vx:float? topo_vy:float? topo_vz:float? topo_vtot:float? diaDistanceRank:int?
"""
_ORBIT: Final = """
id:int designation:string packed_primary_provisional_designation:string
unpacked_primary_provisional_designation:string mpc_orb_jsonb:string? created_at:long?
updated_at:long? orbit_type_int:int? u_param:int? nopp:int? arc_length_total:double?
arc_length_sel:double? nobs_total:int? nobs_total_sel:int? a:double? q:double? e:double? i:double?
node:double? argperi:double? peri_time:double? yarkovsky:double? srp:double? a1:double? a2:double?
a3:double? dt:double? mean_anomaly:double? period:double? mean_motion:double? a_unc:double?
q_unc:double? e_unc:double? i_unc:double? node_unc:double? argperi_unc:double? peri_time_unc:double?
yarkovsky_unc:double? srp_unc:double? a1_unc:double? a2_unc:double? a3_unc:double? dt_unc:double?
mean_anomaly_unc:double? period_unc:double? mean_motion_unc:double? epoch_mjd:double? h:double?
g:double? not_normalized_rms:double? normalized_rms:double? earth_moid:double?
fitting_datetime:long?
"""


def alert_schema() -> dict[str, Any]:
    """The Avro schema of a whole alert packet.

    Example:
        >>> [field["name"] for field in alert_schema()["fields"]][:4]
        ['diaSourceId', 'observation_reason', 'target_name', 'diaSource']
    """
    of_bands = [f"{band}_{word}" for group in _PER_BAND for band in BANDS for word in group.split()]
    of_object = " ".join((_OBJECT, *of_bands, _DETECTIONS))
    fields = [
        *avro_fields("diaSourceId:long observation_reason:string? target_name:string?"),
        {"name": "diaSource", "type": _record("diaSource", _SOURCE)},
        optional("prvDiaSources", {"type": "array", "items": f"{_NAMESPACE}.diaSource"}),
        optional(
            "prvDiaForcedSources",
            {"type": "array", "items": _record("diaForcedSource", _FORCED)},
        ),
        optional("diaObject", _record("diaObject", of_object)),
        optional("ssSource", _record("ssSource", _KNOWN)),
        optional("mpc_orbits", _record("mpc_orbits", _ORBIT)),
        *avro_fields(" ".join(f"{name}:bytes?" for name in ("cutoutDifference", "cutoutScience"))),
        *avro_fields("cutoutTemplate:bytes?"),
    ]
    return {"type": "record", "name": "alert", "namespace": _NAMESPACE, "fields": fields}


def empty_source() -> dict[str, Any]:
    """A `diaSource` of which nothing is known: no flag is set, and all else is null or 0."""
    nothing = {"boolean?": False, "int": 0, "long": 0, "float": 0.0, "double": 0.0}
    words = (word.partition(":") for word in _SOURCE.split())
    return {name: nothing.get(kind) for name, _, kind in words}


def empty_object() -> dict[str, Any]:
    """A `diaObject` of which nothing is known."""
    return {f"{band}_psfFluxNdata": 0 for band in BANDS}


def _record(name: str, fields: str) -> dict[str, Any]:
    return {"type": "record", "name": f"{_NAMESPACE}.{name}", "fields": avro_fields(fields)}
