"""The four astronomical classes: what surrounds an alert, and how its light changes."""

import dataclasses
import math
from collections.abc import Callable
from typing import Final

import numpy as np

from acai_jax.simulate.observing import (
    EXPOSURE_SECONDS,
    NOISY,
    PIXEL_SCALE,
    Exposure,
    Pointing,
    draw_night,
    draw_pointing,
)
from acai_jax.simulate.sky import Source, background, galaxy, star

LightCurve = Callable[[Exposure], float]
"""Exposure -> flux of the difference [DN]; negative where the source is fainter than before."""
DrawNight = Callable[..., float]
"""(chance, duration=0.0) -> JD; so that `duration` [day] fits into the survey, as `draw_night`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Orbit:
    """A moving source: a known solar-system object has a name."""

    trail: float
    """Length of its path during one exposure [pixel]."""
    angle: float
    """Direction of that path [rad]."""
    name: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class SkyObject:
    """An object that sends alerts.

    Attributes:
        label: its class.
        kind: what it is, for people: "supernova", "quasar", "asteroid", ...
        pointing: where it stands.
        sources: what stands still around it; positions relative to it.
        light: flux that the difference image shows.
        start, duration: the stretch of time in which it is active [JD], [day].
        detected: share of the visits before it became active that detected something here.
        seen: share of the visits since then that detected it.
        orbit: how it moves, if it does.
        noisy: share of its exposures that are noisier than their sky explains.
    """

    label: str
    kind: str
    pointing: Pointing
    sources: tuple[Source, ...]
    light: LightCurve
    start: float
    duration: float
    detected: float
    seen: float
    orbit: Orbit | None = None
    noisy: float = NOISY


def hosted(rng: np.random.Generator) -> SkyObject:
    """A supernova at an offset from the centre of a resolved galaxy."""
    pointing = draw_pointing(rng, "extragalactic")
    sources = background(rng, pointing, clear=2.5)
    magnitude = float(np.clip(rng.normal(16.7, 1.6), 13.5, 21))
    host = galaxy(rng, 0.0, 0.0, magnitude)
    # light falls off as the galaxy's does; not in the nucleus, and not where nobody sees the host
    distance = host.radius * rng.gamma(2.3, 0.75)
    distance = float(np.clip(distance, max(0.9, 0.25 * host.radius), max(1.2, 4 * host.radius)))
    host = moved(host, distance, rng.uniform(0, 2 * math.pi))
    if rng.uniform() < 0.05:  # in a knot of its host that catalogues list by itself
        knot = galaxy(rng, 0.0, 0.0, magnitude + rng.uniform(2, 4.5), nucleus=rng.uniform(0.0, 0.3))
        knot = dataclasses.replace(knot, radius=0.8)
        sources.append(moved(knot, rng.rayleigh(0.15), rng.uniform(0, 2 * math.pi)))
    peak = float(np.clip(rng.normal(17.7, 1.2), 12.5, 19.4))
    return SkyObject(
        "h",
        "supernova",
        pointing,
        (host, *sources),
        *supernova(rng, peak),
        # few hosts were ever detected to vary before
        detected=float(rng.beta(1, 25)) if rng.uniform() < 0.3 else 0.0,
        seen=0.8,
        noisy=0.5,
    )


def nuclear(rng: np.random.Generator) -> SkyObject:
    """A quasar, an active nucleus, or a tidal disruption event in a galaxy's nucleus."""
    pointing = draw_pointing(rng, "extragalactic")
    sources = background(rng, pointing, clear=2.5)
    kind = str(rng.choice(("quasar", "active nucleus", "tidal disruption"), p=(0.05, 0.9, 0.05)))
    offset = rng.rayleigh(0.1)
    if kind == "quasar":
        centre = Source(
            0.0, 0.0, float(rng.normal(18.4, 0.8)), float(rng.normal(0.25, 0.15)), "quasar"
        )
    else:
        magnitude = float(np.clip(rng.normal(17.8, 0.85), 15.5, 20))
        # of a near galaxy's light the nucleus is a smaller share
        active = rng.uniform(0.25, 0.8) * 10 ** (0.3 * min(0.0, magnitude - 18.0))
        nucleus = float(active) if kind == "active nucleus" else 0.1
        centre = galaxy(rng, 0.0, 0.0, magnitude, nucleus=nucleus)
        if kind == "tidal disruption":  # stars crowd the centres of their hosts, and Gaia sees most
            centre = dataclasses.replace(centre, index=float(rng.uniform(2.5, 5)))
    centre = moved(centre, offset, rng.uniform(0, 2 * math.pi))
    if kind == "tidal disruption":
        light, start, duration = tidal_disruption(rng, float(rng.normal(19.0, 0.5)))
        detected = float(rng.beta(1, 12)) if rng.uniform() < 0.7 else 0.0
    else:
        share = centre.nucleus or 1.0
        light, start, duration = random_walk(rng, centre, share)
        detected = float(rng.beta(0.9, 3))
    return SkyObject(
        "n",
        kind,
        pointing,
        (centre, *sources),
        light,
        start,
        duration,
        detected,
        seen=0.4,
        noisy=0.75,
    )


def variable(rng: np.random.Generator) -> SkyObject:
    """A star that varies: mostly periodic, sometimes an eruption of a catalogued star."""
    pointing = draw_pointing(rng, "stellar")
    sources = background(rng, pointing)
    magnitude = float(np.clip(rng.normal(16.1, 1.8), 12.5, 20.5))
    offset = rng.rayleigh(0.15)
    if rng.uniform() < 0.12:  # it has moved since it was catalogued
        offset += rng.exponential(0.5)
    centre = moved(star(rng, 0.0, 0.0, magnitude), offset, rng.uniform(0, 2 * math.pi))
    sources = [s for s in sources if s.distance > 1.5]
    start = draw_night(rng, duration=700.0)
    return SkyObject(
        "v",
        "variable star",
        pointing,
        (centre, *sources),
        pulsation(rng, centre),
        start,
        700.0,
        # many vary so little that few visits notice
        detected=float(rng.beta(0.95, 1.7)),
        seen=0.0,
    )


def orphan(rng: np.random.Generator) -> SkyObject:
    """An asteroid, or a transient whose host is too faint to see."""
    if rng.uniform() < 0.14:
        pointing = draw_pointing(rng, "extragalactic")
        sources = background(rng, pointing, clear=11.0)
        peak = float(rng.normal(18.6, 0.6))
        return SkyObject(
            "o",
            "hostless",
            pointing,
            tuple(sources),
            *supernova(rng, peak),
            detected=0.0,
            seen=0.08,
        )
    pointing = draw_pointing(rng, "ecliptic")
    sources = background(rng, pointing)
    magnitude = float(np.clip(19.7 - rng.exponential(1.1), 14.5, 20.0))
    arcsec_per_minute = rng.lognormal(math.log(0.5), 0.3)
    if rng.uniform() < 0.06:  # near the Earth
        arcsec_per_minute = rng.uniform(6, 40)
    orbit = Orbit(
        trail=float(arcsec_per_minute * EXPOSURE_SECONDS / 60 / PIXEL_SCALE),
        angle=float(rng.uniform(0, math.pi)),
        name=str(rng.integers(1, 600_000)) if rng.uniform() < 0.6 else None,
    )
    colour = rng.normal(0.5, 0.1)

    def light(exposure: Exposure) -> float:
        return exposure.flux(magnitude + (colour, 0.0, -0.2)[exposure.fid - 1])

    start = draw_night(rng)
    return SkyObject(
        "o", "asteroid", pointing, tuple(sources), light, start, 0.1, 0.0, 0.0, orbit, noisy=0.25
    )


OBJECTS: Final = {"h": hosted, "n": nuclear, "v": variable, "o": orphan}
"""Class -> maker of a random object of it; bogus alerts are made in `artefacts`."""


def moved(source: Source, distance: float, angle: float, scale: float = PIXEL_SCALE) -> Source:
    """The source at `distance` [arcsec] from the alert, where a pixel has `scale` arcsec."""
    pixels = distance / scale
    return dataclasses.replace(source, x=pixels * math.cos(angle), y=pixels * math.sin(angle))


def pulsation(rng: np.random.Generator, centre: Source) -> LightCurve:
    """Periodic, and sawtooth-like, as pulsating stars are."""
    amplitude = float(np.clip(rng.lognormal(math.log(0.45), 0.7), 0.06, 2.5))
    period, phase = 10 ** rng.uniform(-0.7, 2.5), rng.uniform(0, 1)
    skew = rng.uniform(0.5, 0.85)

    def light(exposure: Exposure) -> float:
        cycle = (exposure.jd / period + phase) % 1
        ramp = cycle / skew if cycle < skew else (1 - cycle) / (1 - skew)
        change = amplitude * (ramp - 0.5)
        return exposure.flux(centre.in_filter(exposure.fid)) * (10 ** (-0.4 * change) - 1)

    return light


def supernova(
    rng: np.random.Generator, peak: float, night: DrawNight = draw_night
) -> tuple[LightCurve, float, float]:
    """A light curve like that of a type Ia, or a slow one: (light, start, duration)."""
    stretch = rng.uniform(0.85, 1.2) if rng.uniform() < 0.65 else rng.uniform(1.3, 3.0)
    duration = 65.0 * stretch
    start = night(rng, duration=duration)

    def light(exposure: Exposure) -> float:
        day = (exposure.jd - start) / stretch - 17
        if day < -17:
            return 0.0
        if day < 0:
            fading = 0.0055 * day * day
        else:
            fading = 0.05 * day if day < 10 else 0.5 + 0.09 * (min(day, 27) - 10)
            fading += 0.02 * max(0.0, day - 27)
        colour = (0.0 if day < 5 else min(0.9, 0.04 * (day - 5)), 0.0, 0.25)[exposure.fid - 1]
        return exposure.flux(peak + fading + colour)

    return light, start, duration


def tidal_disruption(
    rng: np.random.Generator, peak: float, night: DrawNight = draw_night
) -> tuple[LightCurve, float, float]:
    """A rise of weeks and a slow fall, always blue: (light, start, duration)."""
    start = night(rng, duration=160.0)
    rise, scale = rng.uniform(15, 35), rng.uniform(30, 60)

    def light(exposure: Exposure) -> float:
        day = exposure.jd - start - rise
        fading = 1.2 * (day / rise) ** 2 if day < 0 else 2.5 * 5 / 3 * math.log10(1 + day / scale)
        return exposure.flux(peak + fading + (-0.15, 0.0, 0.15)[exposure.fid - 1])

    return light, start, 150.0


def random_walk(
    rng: np.random.Generator, centre: Source, share: float, night: DrawNight = draw_night
) -> tuple[LightCurve, float, float]:
    """A damped random walk of the nucleus, as a sum of slow waves of random phase."""
    start = night(rng, duration=500.0)
    periods = 10 ** rng.uniform(1.5, 3.2, 6)
    phases = rng.uniform(0, 2 * math.pi, 6)
    amplitudes = 0.13 * np.sqrt(periods / 300) * rng.standard_normal(6)
    drift = rng.normal(0, 0.55)  # since the reference was taken
    faint = -2.5 * math.log10(share)

    def light(exposure: Exposure) -> float:
        waves = np.sin(2 * math.pi * exposure.jd / periods + phases)
        change = drift + float(amplitudes @ waves)
        # nuclei are bluer than their galaxies
        flux = exposure.flux(centre.in_filter(exposure.fid) + faint)
        return flux * (10 ** (-0.4 * change) - 1)

    return light, start, 500.0
