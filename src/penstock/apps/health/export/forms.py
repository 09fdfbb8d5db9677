"""The wide records of health data: objects with a time and many columns, and what the columns become."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Measured = Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Form:
    """How one kind of wide record is read: an object with a time and many columns.

    Each measured column that has a value becomes a point of its metric. An event becomes one point more, which carries
    what is not measured; where nothing is an event, each point carries it.
    """

    measured: Measured = field(default_factory=dict)
    """Column -> metric, unit of the column."""
    event: str = ""
    """The metric of the event, if the record is one."""
    value: tuple[str, str] | None = None
    """Column and unit of the value of the event."""
    kind: tuple[str, ...] = ()
    """Columns of which the first that is there tells apart records of one time."""
    constant: str = ""
    """The kind of all events of this form."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Column -> what it is called in the fields of the event, where metrics call it otherwise."""
    codes: Mapping[str, str] = field(default_factory=dict)
    """Text in the fields of the event -> the table of its codes."""
    metrics: Mapping[str, str] = field(default_factory=dict)
    """Kind -> metric, where events of this kind have a metric of their own."""
    time: tuple[str, ...] = ("recorded_at", "start", "date", "timestamp", "time")
    end: tuple[str, ...] = ("ended_at", "end", "end_time")
    source: tuple[str, ...] = ("source_device", "source")
    workout: bool = False
    """Whether it is read as a workout."""


def _same(unit: str, *columns: str) -> dict[str, tuple[str, str]]:
    return {column: (column, unit) for column in columns}


_BODY = {
    "body_weight_kg": ("weight_body_mass", "kg"),
    "body_mass_index": ("body_mass_index", "count"),
    "body_fat_percentage": ("body_fat_percentage", "%"),
    "lean_body_mass_kg": ("lean_body_mass", "kg"),
    "height_cm": ("height", "cm"),
    "waist_circumference_cm": ("waist_circumference", "cm"),
    "hip_circumference_cm": ("hip_circumference", "cm"),
    "chest_circumference_cm": ("chest_circumference", "cm"),
    "arm_circumference_cm": ("arm_circumference", "cm"),
    "thigh_circumference_cm": ("thigh_circumference", "cm"),
    "body_temperature_celsius": ("body_temperature", "degC"),
    "basal_body_temperature_celsius": ("basal_body_temperature", "degC"),
}
_ACTIVITY = {
    "step_count": ("step_count", "count"),
    "distance_meters": ("walking_running_distance", "m"),
    "flights_climbed": ("flights_climbed", "count"),
    "active_energy_burned_kcal": ("active_energy", "kcal"),
    "basal_energy_burned_kcal": ("basal_energy_burned", "kcal"),
    "distance_cycling_meters": ("cycling_distance", "m"),
    "distance_swimming_meters": ("swimming_distance", "m"),
    "distance_wheelchair_meters": ("wheelchair_distance", "m"),
    "distance_downhill_snow_sports_meters": ("distance_downhill_snow_sports", "m"),
    "push_count": ("wheelchair_push_count", "count"),
    "swimming_stroke_count": ("swimming_stroke_count", "count"),
    "nike_fuel_points": ("nike_fuel", "count"),
    "apple_exercise_time_minutes": ("apple_exercise_time", "min"),
    "apple_stand_time_minutes": ("apple_stand_time", "min"),
    "apple_move_time_minutes": ("apple_move_time", "min"),
    "apple_stand_hour_achieved": ("apple_stand_hour", "count"),
    "walking_speed_m_per_s": ("walking_speed", "m/s"),
    "walking_step_length_cm": ("walking_step_length", "cm"),
    "walking_asymmetry_percent": ("walking_asymmetry_percentage", "%"),
    "walking_double_support_percent": ("walking_double_support_percentage", "%"),
    "six_minute_walk_test_distance_m": ("six_minute_walking_test_distance", "m"),
    "stair_ascent_speed_m_per_s": ("stair_speed_up", "m/s"),
    "stair_descent_speed_m_per_s": ("stair_speed_down", "m/s"),
    "ground_contact_time_ms": ("running_ground_contact_time", "ms"),
    "vertical_oscillation_cm": ("running_vertical_oscillation", "cm"),
    "running_stride_length_m": ("running_stride_length", "m"),
    "running_power_watts": ("running_power", "W"),
    "running_speed_m_per_s": ("running_speed", "m/s"),
    "cycling_speed_kmh": ("cycling_speed", "km/hr"),
    "cycling_power_watts": ("cycling_power", "W"),
    "cycling_cadence_rpm": ("cycling_cadence", "count/min"),
    "functional_threshold_power_watts": ("cycling_functional_threshold_power", "W"),
    "underwater_depth_meters": ("underwater_depth", "m"),
    "diving_duration_seconds": ("diving_duration", "s"),
}
_NUTRITION = {
    "dietary_water": ("dietary_water", "L"),
    "dietary_caffeine": ("dietary_caffeine", "mg"),
    "dietary_energy_consumed": ("dietary_energy", "kcal"),
    "dietary_carbohydrates": ("carbohydrates", "g"),
    "dietary_protein": ("protein", "g"),
    "dietary_fat_total": ("total_fat", "g"),
    "dietary_fat_saturated": ("saturated_fat", "g"),
    "dietary_fat_monounsaturated": ("monounsaturated_fat", "g"),
    "dietary_fat_polyunsaturated": ("polyunsaturated_fat", "g"),
    "dietary_cholesterol": ("dietary_cholesterol", "mg"),
    "dietary_sodium": ("sodium", "mg"),
    "dietary_fiber": ("fiber", "g"),
    "dietary_sugar": ("dietary_sugar", "g"),
    "dietary_calcium": ("calcium", "mg"),
    "dietary_iron": ("iron", "mg"),
    "dietary_magnesium": ("magnesium", "mg"),
    "dietary_potassium": ("potassium", "mg"),
    "dietary_zinc": ("zinc", "mg"),
    "dietary_phosphorus": ("phosphorus", "mg"),
    "dietary_vitamin_c": ("vitamin_c", "mg"),
    "dietary_vitamin_b1_thiamine": ("thiamin", "mg"),
    "dietary_vitamin_b2_riboflavin": ("riboflavin", "mg"),
    "dietary_vitamin_b3_niacin": ("niacin", "mg"),
    "dietary_vitamin_b6_pyridoxine": ("vitamin_b6", "mg"),
    "dietary_vitamin_b12_cobalamin": ("vitamin_b12", "mcg"),
    "dietary_folate": ("folate", "mcg"),
    "dietary_biotin": ("dietary_biotin", "mcg"),
    "dietary_pantothenic_acid": ("pantothenic_acid", "mg"),
    "dietary_vitamin_a": ("vitamin_a", "mcg"),
    "dietary_vitamin_d": ("vitamin_d", "IU"),
    "dietary_vitamin_e": ("vitamin_e", "mg"),
    "dietary_vitamin_k": ("vitamin_k", "mcg"),
}
_HEART = {
    "heart_rate": ("heart_rate", "count/min"),
    "resting_heart_rate": ("resting_heart_rate", "count/min"),
    "heart_rate_variability": ("heart_rate_variability", "ms"),
    "walking_heart_rate_average": ("walking_heart_rate_average", "count/min"),
    "heart_rate_recovery_one_minute": ("cardio_recovery", "count/min"),
    "atrial_fibrillation_burden_percentage": ("atrial_fibrillation_burden", "%"),
    "vo2_max_ml_kg_min": ("vo2_max", "mL/min·kg"),
}
_RESPIRATORY = {
    "respiratory_rate": ("respiratory_rate", "count/min"),
    "oxygen_saturation": ("blood_oxygen_saturation", "%"),
    "forced_vital_capacity": ("forced_vital_capacity", "L"),
    "forced_expiratory_volume_1": ("forced_expiratory_volume_1", "L"),
    "peak_expiratory_flow_rate": ("peak_expiratory_flow_rate", "L/min"),
    "inhaler_usage": ("inhaler_usage", "count"),
}
_TEMPERATURE = {
    "body_temperature": ("body_temperature", "degC"),
    "basal_body_temperature": ("basal_body_temperature", "degC"),
    "apple_sleeping_wrist_temperature": ("apple_sleeping_wrist_temperature", "degC"),
    "water_temperature": ("underwater_temperature", "degC"),
}
_ENVIRONMENT = {
    "uv_index": ("uv_exposure", "count"),
    "uv_exposure_minutes": ("uv_exposure_minutes", "min"),
    "time_in_daylight_minutes": ("time_in_daylight", "min"),
    "ambient_temperature_celsius": ("ambient_temperature", "degC"),
    "humidity_percent": ("humidity", "%"),
    "air_pressure_hpa": ("atmospheric_pressure", "hPa"),
    "altitude_meters": ("altitude", "m"),
}
_AUDIO = {
    "environmental_audio_exposure_db": ("environmental_audio_exposure", "dBASPL"),
    "headphone_audio_exposure_db": ("headphone_audio_exposure", "dBASPL"),
    "daily_noise_dose_percentage": ("daily_noise_dose", "%"),
}
_MIND = _same(
    "score",
    "mood_rating",
    "anxiety_level",
    "stress_level",
    "energy_level",
    "depression_screening_score",
    "anxiety_screening_score",
    "sleep_quality_impact",
)
_INSULIN = {"insulin_delivery_units": ("insulin_delivery", "IU")}

FORMS: Mapping[str, Form] = {
    "HeartRate": Form(_HEART),
    "HeartRateEvent": Form(
        event="heart_rate_notifications",
        value=("heart_rate_at_event", "count/min"),
        kind=("event_type",),
        time=("event_occurred_at", "recorded_at"),
    ),
    "BloodPressure": Form(event="blood_pressure", value=("", "mmHg")),
    "Sleep": Form(
        event="sleep_analysis",
        value=("duration_minutes", "min"),
        constant="aggregated",
        renamed={
            "light_sleep_minutes": "core",
            "deep_sleep_minutes": "deep",
            "rem_sleep_minutes": "rem",
            "awake_minutes": "awake",
        },
        time=("sleep_start", "recorded_at"),
        end=("sleep_end",),
    ),
    "Activity": Form(_ACTIVITY),
    "BodyMeasurement": Form(_BODY, kind=("measurement_source",)),
    "Temperature": Form(_TEMPERATURE),
    "BloodGlucose": Form(
        {"blood_glucose_mg_dl": ("blood_glucose", "mg/dL"), **_INSULIN},
        kind=("glucose_source",),
    ),
    "Metabolic": Form({"blood_alcohol_content": ("blood_alcohol_content", "%"), **_INSULIN}),
    "Respiratory": Form(_RESPIRATORY),
    "Nutrition": Form(_NUTRITION, kind=("meal_id",)),
    "Workout": Form(workout=True, time=("started_at", "start"), end=("ended_at", "end")),
    "Environmental": Form(_ENVIRONMENT),
    "AudioExposure": Form(_AUDIO, kind=("environment_type",)),
    "SafetyEvent": Form(event="safety_events", kind=("event_type",)),
    "Mindfulness": Form(event="mindful_minutes", value=("session_duration_minutes", "min"), kind=("meditation_type",)),
    "MentalHealth": Form(_MIND, event="state_of_mind", value=("state_of_mind_valence", "")),
    "Menstrual": Form(
        event="cycle_tracking",
        constant="menstrual_flow",
        renamed={"menstrual_flow": "value"},
        codes={"value": "flow"},
    ),
    "Fertility": Form(
        {"basal_body_temperature": _TEMPERATURE["basal_body_temperature"], "lh_level": ("luteinizing_hormone", "")},
        event="cycle_tracking",
        constant="fertility",
    ),
    "Symptom": Form(
        event="symptoms",
        kind=("symptom_type", "name"),
        renamed={"symptom_type": "name"},
        codes={"name": "symptom", "severity": "severity"},
    ),
    "Hygiene": Form(
        event="hygiene_events",
        value=("duration_seconds", "s"),
        kind=("event_type",),
        metrics={"handwashing": "handwashing", "toothbrushing": "toothbrushing"},
    ),
}
"""The wide records by the ``type`` that the internal form of an export gives them."""

ABOUT = frozenset({"id", "user_id", "created_at", "type"})
"""Columns about the record, not about the person: kept in ``original`` only."""
