"""The units of an export and how they are converted: by what is sent, never by what is assumed."""

from __future__ import annotations

import re
import unicodedata
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ....platform.cache import memoize

Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
_DIGITS = 15
"""How many digits of a converted number count: more of them say only how it was calculated."""


class Conversion(NamedTuple):
    """How a number becomes one of another unit: times ``scale`` plus ``shift``."""

    scale: float
    shift: float = 0.0

    def __call__(self, value: float) -> float:
        """Convert a number; one that needs no conversion is returned as it is."""
        return value if self == SAME else float(f"{value * self.scale + self.shift:.{_DIGITS}g}")

    def of_many(self, values: Floats) -> Floats:
        """Convert numbers alike."""
        if self == SAME:
            return values
        with np.errstate(over="ignore"):  # What is too large becomes infinite.
            return _rounded(values * self.scale + self.shift)


SAME = Conversion(1.0)


def _rounded(values: Floats) -> Floats:
    """Round to the digits that count; what is too large or too small for it stays as it is."""
    with np.errstate(all="ignore"):
        places = _DIGITS - 1 - np.floor(np.log10(np.abs(values)))
        fitting = (places >= 0) & (places <= 22)  # powers of ten to here are exact
        scale = np.where(fitting, 10.0 ** np.where(fitting, places, 0), 1.0)
        return np.where(fitting, np.round(values * scale) / scale, values)


_TABLE = """
energy       kcal=1 Cal=1 kilocalorie=1 kilocalories=1 cal=0.001 kJ=1/4.184 J=1/4184 kilojoule=1/4.184 kilojoules=1/4.184 \
             joule=1/4184 joules=1/4184
length       m=1 meter=1 meters=1 metre=1 metres=1 km=1000 kilometer=1000 kilometers=1000 kilometre=1000 kilometres=1000 \
             centimeter=0.01 centimeters=0.01 centimetre=0.01 centimetres=0.01 millimeter=0.001 millimeters=0.001 cm=0.01 mm=0.001 mi=1609.344 mile=1609.344 miles=1609.344 \
             yd=0.9144 yard=0.9144 yards=0.9144 ft=0.3048 foot=0.3048 feet=0.3048 in=0.0254 inch=0.0254 inches=0.0254
mass         kg=1 kilogram=1 kilograms=1 gram=0.001 grams=0.001 ounce=0.028349523125 ounces=0.028349523125 \
             milligram=1e-6 milligrams=1e-6 microgram=1e-9 micrograms=1e-9 g=0.001 mg=1e-6 mcg=1e-9 ug=1e-9 lb=0.45359237 lbs=0.45359237 pound=0.45359237 pounds=0.45359237 \
             st=6.35029318 stone=6.35029318 stones=6.35029318 oz=0.028349523125
temperature  degC=1 °C=1 C=1 celsius=1 degF=5/9-160/9 °F=5/9-160/9 F=5/9-160/9 fahrenheit=5/9-160/9 K=1-273.15
speed        m/s=1 m/sec=1 mps=1 m/second=1 meters/second=1 m·s-1=1 km/hr=1/3.6 km/h=1/3.6 kph=1/3.6 kmh=1/3.6 kmph=1/3.6 \
             kmhr=1/3.6 km/hour=1/3.6 kilometers/hour=1/3.6 kmh-1=1/3.6 km·h-1=1/3.6 mi/hr=0.44704 mi/h=0.44704 \
             mi/hour=0.44704 miles/hour=0.44704 mile/hr=0.44704 miles/hr=0.44704 milesperhour=0.44704 kilometersperhour=1/3.6 \
             kilometresperhour=1/3.6 kmperhour=1/3.6 meterspersecond=1 metrespersecond=1 mph=0.44704 fps=0.3048 ft/s=0.3048 kn=0.514444444444 knots=0.514444444444 \
             ft/sec=0.3048 ft/min=0.3048/60 m/min=1/60 cm/s=0.01 yd/min=0.9144/60
frequency    count/min=1 bpm=1 BPM=1 beats/min=1 breaths/min=1 br/min=1 spm=1 rpm=1 steps/min=1 strokes/min=1 beats/minute=1 beatsperminute=1 count/minute=1 \
             steps/minute=1 strokes/minute=1 rev/min=1 revolutions/min=1 breaths/minute=1 /min=1 1/min=1 \
             count/s=60 count/sec=60 Hz=60 count/hr=1/60
time         min=1 mins=1 minute=1 minutes=1 s=1/60 sec=1/60 secs=1/60 second=1/60 seconds=1/60 ms=1/60000 hr=60 hrs=60 \
             h=60 hour=60 hours=60 d=1440 day=1440 days=1440
volume       L=1 l=1 liter=1 liters=1 litre=1 litres=1 milliliter=0.001 milliliters=0.001 millilitre=0.001 millilitres=0.001 dL=0.1 cL=0.01 mL=0.001 ml=0.001 fl_oz_us=0.0295735295625 fl_oz=0.0295735295625 \
             fl_oz_imp=0.0284130625 cup_us=0.2365882365 cup_imp=0.284130625 pt_us=0.473176473 pt_imp=0.56826125 \
             gal_us=3.785411784
flow         L/min=1 l/min=1 L/s=60 mL/min=0.001 mL/s=0.06
pressure     mmHg=1 kPa=7.500615613 cmAq=0.735559240 Pa=0.007500615613 hPa=0.7500615613 inHg=25.4 psi=51.71492477 \
             atm=760 mbar=0.7500615613 bar=750.0615613 cmH2O=0.735559240 cmH₂O=0.735559240
glucose      mg/dL=1 mg/dl=1 mmol/L=18.01558800000541 mmol/l=18.01558800000541 mmol<180.15588000005408>/L=18.01558800000541 \
             mmol<180.1558800000541>/L=18.01558800000541
power        W=1 watt=1 watts=1 kW=1000
ratio        %=1 percent=1 pct=1
sound        dBASPL=1 dB=1 dBA=1 dB(A)=1 dBHL=1
conductance  mcS=1 uS=1 S=1e6 mS=1000
voltage      mcV=1 uV=1 mV=1000 V=1e6
uptake       mL/(kg·min)=1 mL/min·kg=1 ml/kg/min=1 mL/kg/min=1 mL/(min·kg)=1 mL/kg·min=1 ml/(kg·min)=1 \
             mL/(kg*min)=1 mL/min/kg=1
effort       kcal/hr·kg=1 kcal/(kg·hr)=1 kcal/(hr·kg)=1 kcal/kg/hr=1 kcal/hr/kg=1 kcal/kg·hr=1 MET=1 METs=1 kJ/hr·kg=1/4.184
insulin      IU=1 U=1 units=1
count        count=1 counts=1 steps=1 step=1 times=1 strokes=1 pushes=1 floors=1 events=1 count()=1
angle        deg=1 °=1 degrees=1 rad=57.29577951308232
"""  # noqa: E501 - a table


class _Unit(NamedTuple):
    quantity: str
    scale: float
    shift: float


def _units() -> dict[str, _Unit]:
    found: dict[str, _Unit] = {}
    for line in _TABLE.replace("\\\n", "").strip().splitlines():
        quantity, *spellings = line.split()
        for spelling in spellings:
            name, _, rule = spelling.rpartition("=")
            scale, shift = (rule, "0")
            if quantity == "temperature" and "-" in rule:
                scale, shift = rule.split("-")
            found[name] = _Unit(quantity, _quotient(scale), -_quotient(shift))
    return found


def _quotient(text: str) -> float:
    above, _, below = text.partition("/")
    return float(above) / float(below or 1)


_MAX_UNIT_LENGTH = 40
_UNITS = _units()
_LOWER: dict[str, _Unit | None] = {}
for _name, _unit in _UNITS.items():
    _other = _LOWER.get(_name.lower(), _unit)
    _LOWER[_name.lower()] = _unit if _other == _unit else None  # S is not s, and kJ may be KJ


@memoize(1000)
def spelled(unit: str) -> str:
    """Return the unit with one sign for micro and for a product, and no spaces."""
    plain = re.sub(r"\s+", "", unicodedata.normalize("NFKC", unit)).replace("μ", "mc")
    return plain.replace("⋅", "·").replace("•", "·").replace("∙", "·")


def _find(unit: str) -> _Unit | None:
    if len(unit) > _MAX_UNIT_LENGTH:
        return None
    name = spelled(unit)
    return _UNITS.get(name) or _LOWER.get(name.lower())


def conversion(unit: str, wanted: str) -> Conversion | None:
    """Return how numbers in ``unit`` become numbers in ``wanted``; None if that is not known."""
    if unit == wanted:
        return SAME
    return _conversion(unit, wanted) if len(unit) <= _MAX_UNIT_LENGTH else None


@memoize(10_000)
def _conversion(unit: str, wanted: str) -> Conversion | None:
    have, want = _find(unit), _find(wanted)
    if have is None or want is None or have.quantity != want.quantity:
        return None
    if have == want:
        return SAME
    return Conversion(have.scale / want.scale, (have.shift - want.shift) / want.scale)


def is_unit(unit: str) -> bool:
    """Tell whether the unit is known at all."""
    return _find(unit) is not None
