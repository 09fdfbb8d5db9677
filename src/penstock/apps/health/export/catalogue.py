"""The metrics that are known: what each is called, its unit, how it adds up, and what is plausible."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from ....platform.cache import memoize

Aggregation = Literal["sum", "mean", "last", "event"]


class Metric(msgspec.Struct, frozen=True):
    """One metric. A metric that is not in the catalogue is stored under its own name, in the unit that is sent."""

    name: str
    label: str
    unit: str
    """In which it is stored and shown."""
    aggregation: Aggregation
    low: float | None = None
    high: float | None = None
    """Beyond these a value is kept, with the warning ``suspicious_value``."""
    aliases: tuple[str, ...] = ()
    fraction: bool = False
    """Whether a value of at most 1 is a fraction of one, not a percentage: it could not be that low."""

    def plausible(self) -> str:
        """Say the range in words."""
        if self.low is None or self.high is None:
            return f"at least {self.low:g}" if self.low is not None else f"at most {self.high:g}"
        return f"from {self.low:g} to {self.high:g}"


# aggregation, then for each metric: name | unit | low..high | label | other spellings. Of each name the spellings
# with a prefix "dietary_", and those of HealthKit identifiers in the same words, are known without being listed.
_TABLE = """
mean
heart_rate | count/min | 15..300 | Heart rate | heartrate pulse heart_rate_bpm
resting_heart_rate | count/min | 15..300 | Resting heart rate |
walking_heart_rate_average | count/min | 60..200 | Walking heart rate average | walking_heart_rate
cardio_recovery | count/min | 0..100 | Cardio recovery | heart_rate_recovery_one_minute heart_rate_recovery
heart_rate_variability | ms | 0..500 | Heart rate variability | heart_rate_variability_sdnn hrv
heart_rate_variability_rmssd | ms | 0..500 | Heart rate variability (RMSSD) |
atrial_fibrillation_burden | % | 0..100 | Atrial fibrillation burden |
vo2_max | mL/(kg·min) | 14..65 | VO₂ max | vo2max
blood_pressure | mmHg | | Blood pressure |
blood_pressure_systolic | mmHg | 50..250 | Systolic blood pressure |
blood_pressure_diastolic | mmHg | 30..150 | Diastolic blood pressure |
peripheral_perfusion_index | % | 0..100 | Peripheral perfusion index |
blood_oxygen_saturation | % | 70..100 | Blood oxygen saturation | oxygen_saturation spo2 blood_oxygen
respiratory_rate | count/min | 5..60 | Respiratory rate |
forced_vital_capacity | L | 1..8 | Forced vital capacity |
forced_expiratory_volume_1 | L | 0.5..6 | Forced expiratory volume, 1 s | forced_expiratory_volume forced_expiratory_volume1
peak_expiratory_flow_rate | L/min | 50..800 | Peak expiratory flow rate |
breathing_disturbances | count | 0.. | Breathing disturbances | apple_sleeping_breathing_disturbances
physical_effort | kcal/hr·kg | 0.. | Physical effort |
walking_speed | m/s | 0.. | Walking speed |
walking_step_length | cm | 0.. | Walking step length |
walking_asymmetry_percentage | % | 0..100 | Walking asymmetry |
walking_double_support_percentage | % | 0..100 | Double support time |
apple_walking_steadiness | % | 0..100 | Walking steadiness | walking_steadiness
stair_speed_up | m/s | 0.. | Stair speed: up | stair_ascent_speed
stair_speed_down | m/s | 0.. | Stair speed: down | stair_descent_speed
six_minute_walking_test_distance | m | 0..10000 | Six-minute walk | six_minute_walk_test_distance 6_minute_walking_test_distance
running_power | W | 0.. | Running power |
running_speed | m/s | 0.. | Running speed |
running_ground_contact_time | ms | 0.. | Ground contact time |
running_vertical_oscillation | cm | 0.. | Vertical oscillation |
running_stride_length | m | 0.. | Running stride length |
cycling_power | W | 0.. | Cycling power |
cycling_cadence | count/min | 0.. | Cycling cadence |
cycling_speed | km/hr | 0.. | Cycling speed |
cross_country_skiing_speed | m/s | 0.. | Cross-country skiing speed |
paddle_sports_speed | m/s | 0.. | Paddle sports speed |
rowing_speed | m/s | 0.. | Rowing speed |
body_temperature | degC | 30..45 | Body temperature |
basal_body_temperature | degC | 35..39 | Basal body temperature |
apple_sleeping_wrist_temperature | degC | 30..45 | Wrist temperature while asleep | sleeping_wrist_temperature wrist_temperature
underwater_temperature | degC | 0..100 | Water temperature | under_water_temperature water_temperature
blood_glucose | mg/dL | 30..600 | Blood glucose | glucose
blood_alcohol_content | % | 0..0.5 | Blood alcohol content |
electrodermal_activity | mcS | 0.. | Electrodermal activity |
environmental_audio_exposure | dBASPL | 0..150 | Environmental audio exposure | environmental_audio environmental_audio_levels
headphone_audio_exposure | dBASPL | 0..150 | Headphone audio exposure | headphone_audio headphone_audio_levels
environmental_sound_reduction | dBASPL | 0..150 | Environmental sound reduction |
underwater_depth | m | 0..1000 | Underwater depth | under_water_depth
uv_exposure | count | 0..20 | UV exposure | uv_index
ambient_temperature | degC | -50..60 | Ambient temperature |
humidity | % | 0..100 | Humidity |
atmospheric_pressure | hPa | 800..1200 | Atmospheric pressure | barometric_pressure air_pressure
altitude | m | -500..9000 | Altitude |
workout_effort_score | count | 0..10 | Workout effort |
estimated_workout_effort_score | count | 0..10 | Estimated workout effort |
last
weight_body_mass | kg | 20..500 | Weight | body_mass weight body_weight
body_mass_index | count | 15..50 | Body mass index | bmi
body_fat_percentage | % | 3..50 | Body fat | body_fat
lean_body_mass | kg | 10..200 | Lean body mass |
height | cm | 50..250 | Height |
waist_circumference | cm | 40..200 | Waist | waist
hip_circumference | cm | 40..200 | Hip |
chest_circumference | cm | 40..200 | Chest |
arm_circumference | cm | 15..60 | Arm |
thigh_circumference | cm | 30..100 | Thigh |
cycling_functional_threshold_power | W | 0.. | Functional threshold power |
sum
step_count | count | 0..200000 | Steps | steps
walking_running_distance | m | 0..500000 | Walking and running distance | distance_walking_running distance walking_and_running_distance
cycling_distance | m | 0..500000 | Cycling distance | distance_cycling
swimming_distance | m | 0..500000 | Swimming distance | distance_swimming
wheelchair_distance | m | 0..500000 | Wheelchair distance | distance_wheelchair
distance_downhill_snow_sports | m | 0..500000 | Downhill snow sports distance | downhill_snow_sports downhill_snow_sports_distance
distance_cross_country_skiing | m | 0..500000 | Cross-country skiing distance | cross_country_skiing_distance
distance_paddle_sports | m | 0..500000 | Paddle sports distance | paddle_sports_distance
distance_rowing | m | 0..500000 | Rowing distance | rowing_distance
distance_skating_sports | m | 0..500000 | Skating sports distance | skating_sports_distance
active_energy | kcal | 0..20000 | Active energy | active_energy_burned calories
basal_energy_burned | kcal | 0..20000 | Resting energy | basal_energy resting_energy
flights_climbed | count | 0..10000 | Flights climbed |
wheelchair_push_count | count | 0..50000 | Wheelchair pushes | push_count wheelchair_pushes
swimming_stroke_count | count | 0..100000 | Swimming strokes | swim_stroke_count
nike_fuel | count | 0..10000 | NikeFuel | nike_fuel_points
apple_exercise_time | min | 0..1440 | Exercise time | exercise_time apple_exercise_time_minutes
apple_stand_time | min | 0..1440 | Stand time | stand_time apple_stand_time_minutes
apple_stand_hour | count | 0..24 | Stand hours | apple_stand_hours stand_hour
apple_move_time | min | 0..1440 | Move time | move_time apple_move_time_minutes
inhaler_usage | count | 0..50 | Inhaler usage |
insulin_delivery | IU | 0..100 | Insulin delivery |
number_of_times_fallen | count | 0.. | Falls | number_of_time_fallen
number_of_alcoholic_beverages | count | 0.. | Alcoholic beverages |
time_in_daylight | min | 0..1440 | Time in daylight | daylight
mindful_minutes | min | 0..1440 | Mindful minutes | mindful_session mindfulness
handwashing | s | 1..7200 | Handwashing | handwashing_event hand_washing
toothbrushing | s | 1..7200 | Toothbrushing | toothbrushing_event tooth_brushing
sexual_activity | count | 0.. | Sexual activity |
sleep_analysis | min | 0..1440 | Sleep | sleep
dietary_energy | kcal | 0..10000 | Dietary energy | dietary_energy_consumed energy_consumed
dietary_water | mL | 0..10000 | Water | water
dietary_caffeine | mg | 0..1000 | Caffeine | caffeine
dietary_biotin | mcg | 0..5000 | Biotin | biotin
dietary_cholesterol | mg | 0..2000 | Cholesterol | cholesterol
dietary_sugar | g | 0..1000 | Sugar | sugar
protein | g | 0..1000 | Protein |
carbohydrates | g | 0..2000 | Carbohydrates |
fiber | g | 0..200 | Fibre |
total_fat | g | 0..1000 | Total fat | fat_total fat
monounsaturated_fat | g | 0..500 | Monounsaturated fat | monosaturated_fat fat_monounsaturated
polyunsaturated_fat | g | 0..500 | Polyunsaturated fat | fat_polyunsaturated
saturated_fat | g | 0..500 | Saturated fat | fat_saturated
calcium | mg | 0..5000 | Calcium |
chloride | mg | 0..10000 | Chloride |
chromium | mcg | 0..5000 | Chromium |
copper | mg | 0..100 | Copper |
folate | mcg | 0..5000 | Folate |
iodine | mcg | 0..5000 | Iodine |
iron | mg | 0..100 | Iron |
magnesium | mg | 0..2000 | Magnesium |
manganese | mg | 0..100 | Manganese |
molybdenum | mcg | 0..5000 | Molybdenum |
niacin | mg | 0..1000 | Niacin | vitamin_b3
pantothenic_acid | mg | 0..100 | Pantothenic acid | vitamin_b5
phosphorus | mg | 0..5000 | Phosphorus |
potassium | mg | 0..10000 | Potassium |
riboflavin | mg | 0..100 | Riboflavin | vitamin_b2
selenium | mcg | 0..5000 | Selenium |
sodium | mg | 0..10000 | Sodium |
thiamin | mg | 0..100 | Thiamin | vitamin_b1 thiamine
vitamin_a | mcg | 0..10000 | Vitamin A |
vitamin_b6 | mg | 0..200 | Vitamin B6 |
vitamin_b12 | mcg | 0..2000 | Vitamin B12 |
vitamin_c | mg | 0..5000 | Vitamin C |
vitamin_d | mcg | 0..10000 | Vitamin D |
vitamin_e | mg | 0..1000 | Vitamin E |
vitamin_k | mcg | 0..5000 | Vitamin K |
zinc | mg | 0..100 | Zinc |
event
irregular_heart_rate_notifications | count | 0.. | Irregular rhythm notifications | irregular_heart_rhythm_event
low_heart_rate_notifications | count | 0.. | Low heart rate notifications | low_heart_rate_event
high_heart_rate_notifications | count | 0.. | High heart rate notifications | high_heart_rate_event
symptoms | | | Symptoms | symptom
cycle_tracking | | | Cycle tracking |
state_of_mind | | -1..1 | State of mind |
medications | | | Medications | medication
ecg | | | Electrocardiograms | electrocardiogram
heart_rate_notifications | | | Heart rate notifications |
"""  # noqa: E501 - one metric to a line
MEASURED = frozenset(
    (
        "step_count",
        "walking_running_distance",
        "cycling_distance",
        "swimming_distance",
        "wheelchair_distance",
        "distance_downhill_snow_sports",
        "distance_cross_country_skiing",
        "distance_paddle_sports",
        "distance_rowing",
        "distance_skating_sports",
        "active_energy",
        "basal_energy_burned",
        "flights_climbed",
        "wheelchair_push_count",
        "swimming_stroke_count",
        "nike_fuel",
        "apple_exercise_time",
        "apple_stand_time",
        "apple_stand_hour",
        "apple_move_time",
        "time_in_daylight",
    )
)
"""The amounts that devices measure all the time; a person enters the others, at full minutes and hours."""
_FRACTIONS = {"blood_oxygen_saturation", "body_fat_percentage"}


def _read() -> dict[str, Metric]:
    found: dict[str, Metric] = {}
    aggregation: Aggregation = "mean"
    for line in _TABLE.strip().splitlines():
        if "|" not in line:
            aggregation = line.strip()  # type: ignore[assignment]
            continue
        name, unit, plausible, label, aliases = (part.strip() for part in line.split("|"))
        low, _, high = plausible.partition("..")
        found[name] = Metric(
            name,
            label,
            unit,
            aggregation,
            float(low) if low else None,
            float(high) if high else None,
            tuple(aliases.split()),
            name in _FRACTIONS,
        )
    return found


METRICS = _read()
"""All metrics, by canonical name."""
_BY_SPELLING = {spelling: metric for metric in METRICS.values() for spelling in (metric.name, *metric.aliases)}
_IDENTIFIER = re.compile(r"hk(quantity|category|data|workout|correlation)?type(identifier)?_?", re.IGNORECASE)
_MAX_SPELLING_LENGTH = 120


@memoize(10_000)
def find(name: str) -> Metric | None:
    """Return the metric that is meant by a name: as the app, HealthKit or the internal form spell it."""
    bare = _IDENTIFIER.sub("", name.strip(), count=1)
    for spelling in (_plain(bare), plain(bare)):
        for known in (spelling, spelling.removeprefix("dietary_")):
            if known in _BY_SPELLING:
                return _BY_SPELLING[known]
    return None


@memoize(10_000)
def canonical(name: str) -> str:
    """Return the name under which points of this metric are stored; an unknown one as sent, made safe."""
    metric = find(name)
    if metric is not None:
        return metric.name
    safe = re.sub(r"[^\w.:+&-]+", "_", name.strip().lower()).strip("_")
    return safe[:_MAX_SPELLING_LENGTH] or "unnamed"


def plain(name: str) -> str:
    """Return a name in lower snake case: ``Protection Used`` as ``protection_used``, ``mealTime`` as ``meal_time``."""
    return _plain(snake(name))


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name.lower()).strip("_")


def snake(name: str) -> str:
    """Return ``HeartRateVariabilitySDNN`` as ``heart_rate_variability_sdnn``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
