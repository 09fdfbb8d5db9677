"""Codes for the texts that the app sends in the language of the phone; a text without a code stays as it is."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

_SEVERITY = {
    "not_present": "not present|nicht vorhanden|no presente|ausente|absent|absente|non présent|assente|não presente"
    "|niet aanwezig|afwezig",
    "present": "vorhanden|presente|présent|présente|aanwezig",
    "unspecified": "not specified|nicht angegeben|nicht spezifiziert|sin especificar|no especificado|non spécifié"
    "|non précisé|non specificato|não especificado|niet gespecificeerd",
    "none": "keine|ninguno|ninguna|aucun|aucune|nessuno|nessuna|nenhum|nenhuma|geen",
    "mild": "light|leicht|leve|léger|légère|lieve|licht|lindrig|軽度|轻度|輕度",
    "moderate": "mittel|mäßig|moderat|moderado|moderada|modéré|modérée|moderato|moderata|matig|måttlig|中等度|中度",
    "severe": "schwer|stark|grave|severo|severa|intenso|intensa|sévère|ernstig|hevig|svår|alvorlig|重度",
    "critical": "kritisch|crítico|crítica|critique|critico|critica|kritiek",
}
_FLOW = {
    "none": "kein|keine|ninguno|ninguna|aucun|aucune|nessuno|nessuna|nenhum|nenhuma|geen",
    "light": "leicht|schwach|ligero|leve|escaso|léger|légère|leggero|scarso|fraco|licht",
    "medium": "mittel|medio|moderado|moyen|moyenne|modéré|médio|moderato|gemiddeld|normaal",
    "heavy": "stark|abundante|intenso|abondant|abondante|abbondante|hevig",
    "spotting": "schmierblutung|manchado|sangrado leve|petits saignements|spotting",
    "unspecified": _SEVERITY["unspecified"],
}
_CYCLE_VALUE = _FLOW | {
    "negative": "negativ|negativo|négatif|negatief",
    "positive": "positiv|positivo|positif|positief",
    "luteinizing_hormone_surge": "lh surge|luteinizing hormone surge|lh-anstieg",
    "estrogen_surge": "estrogen surge|östrogenanstieg",
    "indeterminate": "unbestimmt|indeterminado|indéterminé|indeterminato|onbepaald",
    "dry": "trocken|seco|sec|sèche|secco|droog",
    "sticky": "klebrig|pegajoso|collant|collante|appiccicoso|kleverig|plakkerig",
    "creamy": "cremig|cremoso|crémeux|crémeuse|romig",
    "watery": "wässrig|acuoso|aqueux|aqueuse|acquoso|aquoso|waterig",
    "egg_white": "eiweiß|eiweißartig|clara de huevo|blanc d'œuf|albume|clara de ovo|eiwit",
    "not_tested": "nicht getestet|no realizado|non testé|non testato|não testado|niet getest",
    "yes": "ja|sí|oui|sì|sim",
    "no": "nein|non|não|nee",
}
_CYCLE_NAME = {
    "menstrual_flow": "menstruation|menstrual period|period|menstruationsblutung|regelblutung|flujo menstrual"
    "|flux menstruel|règles|menstruación|flusso mestruale|mestruazione|mestruazioni|fluxo menstrual|menstruação"
    "|menstruatie",
    "intermenstrual_bleeding": "spotting|schmierblutung|zwischenblutung|sangrado intermenstrual"
    "|saignements intermenstruels|sangramento intermenstrual|tussentijds bloedverlies",
    "ovulation_test_result": "ovulation test|ovulationstest|ergebnis des ovulationstests|prueba de ovulación"
    "|test d'ovulation|test di ovulazione|teste de ovulação|ovulatietest",
    "pregnancy_test_result": "pregnancy test|schwangerschaftstest|prueba de embarazo|test de grossesse"
    "|test di gravidanza|teste de gravidez|zwangerschapstest",
    "progesterone_test_result": "progesterone test|progesterontest|prueba de progesterona|test de progestérone",
    "cervical_mucus_quality": "cervical mucus|zervixschleim|moco cervical|flujo cervical|glaire cervicale"
    "|muco cervicale|muco cervical|cervixslijm",
    "sexual_activity": "sexuelle aktivität|actividad sexual|activité sexuelle|attività sessuale|atividade sexual"
    "|seksuele activiteit",
    "contraceptive": "contraception|verhütungsmittel|verhütung|anticonceptivo|anticonceptivos|contraceptif"
    "|contraccettivo|contraccettivi|contraceptivo|anticonceptie",
    "pregnancy": "schwangerschaft|embarazo|grossesse|gravidanza|gravidez|zwangerschap",
    "lactation": "stillen|lactancia|allaitement|allattamento|lactação|amamentação|borstvoeding",
}
_MEDICATION = {
    "taken": "genommen|eingenommen|tomado|tomada|pris|prise|preso|presa|assunto|assunta|ingenomen|genomen",
    "skipped": "übersprungen|ausgelassen|omitido|omitida|saltado|saltada|ignoré|ignorée|sauté|sautée|saltato|saltata"
    "|ignorado|ignorada|pulado|pulada|overgeslagen",
    "snoozed": "später erinnern|pospuesto|pospuesta|reporté|reportée|posticipato|posticipata|adiado|adiada|uitgesteld",
    "not_logged": "not logged|nicht protokolliert|nicht erfasst|no registrado|no registrada|non enregistré"
    "|non registrato|não registrado|não registado|niet geregistreerd",
    "not_interacted": "no interaction",
    "notification_not_sent": "",
    "scheduled": "geplant|programado|programada|programmé|planifié|programmato|agendado|gepland",
}
_ECG = {
    "sinus_rhythm": "sinusrhythmus|ritmo sinusal|rythme sinusal|ritmo sinusale|sinusritme",
    "atrial_fibrillation": "afib|vorhofflimmern|fibrilación auricular|fibrillation auriculaire|fibrillation atriale"
    "|fibrillazione atriale|fibrilação atrial|fibrilação auricular|atriumfibrilleren|boezemfibrilleren",
    "inconclusive": "nicht eindeutig|uneindeutig|nicht aussagekräftig|no concluyente|inconcluso|non concluant"
    "|non conclusivo|inconcludente|inconclusivo|niet eenduidig|niet doorslaggevend",
    "inconclusive_low_heart_rate": "inconclusive (low heart rate)|inconclusive low heart rate|low heart rate"
    "|niedrige herzfrequenz",
    "inconclusive_high_heart_rate": "inconclusive (high heart rate)|inconclusive high heart rate|high heart rate"
    "|hohe herzfrequenz",
    "inconclusive_poor_reading": "inconclusive (poor reading)|inconclusive (poor recording)|poor recording"
    "|poor reading",
    "inconclusive_other": "inconclusive (other)",
    "unrecognized": "nicht erkannt|no reconocido|non reconnu|non riconosciuto|não reconhecido|niet herkend",
    "not_set": "nicht festgelegt|sin definir|non défini|non impostato|não definido|niet ingesteld",
}
_SYMPTOM = {
    "headache": "kopfschmerzen|dolor de cabeza|cefalea|mal de tête|maux de tête|mal di testa|dor de cabeça|hoofdpijn",
    "fatigue": "müdigkeit|erschöpfung|fatiga|stanchezza|affaticamento|fadiga|vermoeidheid",
    "fever": "fieber|fiebre|fièvre|febbre|febre|koorts",
    "nausea": "übelkeit|náuseas|náusea|nausée|nausées|misselijkheid",
    "coughing": "cough|husten|tos|toux|tosse|hoesten",
    "vomiting": "erbrechen|vómitos|vómito|vomissement|vomissements|vomito|vômito|overgeven|braken",
    "diarrhea": "diarrhoea|durchfall|diarrea|diarrhée|diarreia|diarree",
    "constipation": "verstopfung|estreñimiento|stitichezza|stipsi|prisão de ventre",
    "dizziness": "schwindel|mareo|mareos|étourdissements|vertiges|vertigini|capogiri|tontura|tonturas|duizeligheid",
    "sore_throat": "halsschmerzen|dolor de garganta|mal de gorge|mal di gola|dor de garganta|keelpijn",
    "runny_nose": "laufende nase|secreción nasal|nez qui coule|naso che cola|nariz escorrendo|loopneus",
    "congestion": "verstopfte nase|congestión|congestion nasale|congestione|congestão|verstopte neus",
    "sinus_congestion": "",
    "chills": "schüttelfrost|escalofríos|frissons|brividi|calafrios|koude rillingen",
    "shortness_of_breath": "kurzatmigkeit|atemnot|falta de aire|dificultad para respirar|essoufflement"
    "|respiro corto|fiato corto|falta de ar|kortademigheid",
    "wheezing": "keuchen|sibilancias|respiration sifflante|respiro sibilante|piepende ademhaling",
    "sneezing": "niesen|estornudos|éternuements|starnuti|espirros|niezen",
    "bloating": "blähungen|blähbauch|hinchazón|ballonnements|gonfiore|inchaço|opgeblazen gevoel",
    "heartburn": "sodbrennen|acidez|ardor de estómago|brûlures d'estomac|bruciore di stomaco|azia|brandend maagzuur",
    "abdominal_cramps": "bauchkrämpfe|unterleibskrämpfe|cólicos abdominales|crampes abdominales|crampi addominali"
    "|cólicas abdominais|buikkrampen",
    "back_pain": "lower back pain|rückenschmerzen|dolor lumbar|dolor de espalda|mal de dos|douleurs lombaires"
    "|mal di schiena|dor nas costas|rugpijn",
    "muscle_pain": "body and muscle ache|generalized body ache|muskelschmerzen|dolor muscular|douleurs musculaires"
    "|dolori muscolari|dores musculares|spierpijn",
    "joint_pain": "gelenkschmerzen|dolor articular|douleurs articulaires|dolori articolari|dor nas articulações"
    "|gewrichtspijn",
    "pelvic_pain": "beckenschmerzen|dolor pélvico|douleur pelvienne|dolore pelvico|dor pélvica|bekkenpijn",
    "breast_pain": "",
    "chest_tightness_or_pain": "chest tightness or pain|chest pain|opresión o dolor en el pecho",
    "palpitations": "rapid, pounding, or fluttering heartbeat|herzklopfen|palpitaciones|palpitazioni|palpitações"
    "|hartkloppingen",
    "hot_flashes": "hitzewallungen|sofocos|bouffées de chaleur|vampate|vampate di calore|ondas de calor|opvliegers",
    "night_sweats": "nachtschweiß|sudores nocturnos|sueurs nocturnes|sudorazione notturna|suores noturnos|nachtzweten",
    "mood_changes": "stimmungsschwankungen|stimmungsänderungen|cambios de humor|sautes d'humeur|sbalzi d'umore"
    "|mudanças de humor|stemmingswisselingen",
    "sleep_disturbances": "sleep changes|schlafveränderungen|cambios en el sueño|changements du sommeil"
    "|alterações do sono",
    "appetite_changes": "loss of appetite|appetitveränderungen|cambios en el apetito|cambios de apetito"
    "|changements d'appétit",
    "memory_issues": "memory lapse|gedächtnislücken|lapsos de memoria|trous de mémoire|vuoti di memoria",
    "acne": "akne|acné",
    "hair_loss": "haarausfall|caída del cabello|chute de cheveux|perdita di capelli|queda de cabelo|haaruitval",
    "dry_skin": "trockene haut|piel seca|peau sèche|pelle secca|pele seca|droge huid",
    "vaginal_dryness": "scheidentrockenheit|sequedad vaginal|sécheresse vaginale|secchezza vaginale|secura vaginal",
    "bladder_incontinence": "inkontinenz|incontinencia urinaria|incontinence urinaire|incontinenza urinaria",
    "loss_of_smell": "geruchsverlust|pérdida del olfato|perte de l'odorat|perdita dell'olfatto|perda de olfato"
    "|reukverlies",
    "loss_of_taste": "geschmacksverlust|pérdida del gusto|perte du goût|perdita del gusto|perda de paladar"
    "|smaakverlies",
    "fainting": "ohnmacht|desmayo|évanouissement|svenimento|desmaio|flauwvallen",
    "skipped_heartbeat": "",
}

_SLEEP = {
    "awake": "wach|éveil|éveillé|éveillée|réveillé|réveillée|despierto|despierta|sveglio|sveglia|wakker|acordado"
    "|acordada|desperto|desperta|vaken|vågen|våken|覚醒|清醒",
    "in_bed": "in bed|im bett|au lit|en la cama|a letto|na cama|i sängen|i sengen|在床上|卧床|臥床",
    "asleep": "schlafend|schlaf|endormi|endormie|sommeil|dormido|dormida|addormentato|addormentata|sonno|slapend"
    "|in slaap|dormindo|a dormir|sovande|sömn|睡眠|睡眠中",
    "core": "light|light sleep|core sleep|kern|kernschlaf|leichtschlaf|léger|sommeil léger|ligero|sueño ligero|leggero"
    "|sonno leggero|licht|lichte slaap|kernslaap|leve|sono leve|コア|コア睡眠|核心|核心睡眠",
    "deep": "deep sleep|tief|tiefschlaf|profond|sommeil profond|profundo|sueño profundo|profondo|sonno profondo|diep"
    "|diepe slaap|sono profundo|djup|djupsömn|dyb|深い|深い睡眠|深度睡眠|深层睡眠|深層睡眠",
    "rem": "rem sleep|rem-schlaf|sommeil rem|paradoxal|sommeil paradoxal|sueño rem|sonno rem|remslaap|rem-slaap"
    "|sono rem|レム|レム睡眠|快速动眼|快速动眼睡眠|快速动眼期|快速眼动|快速動眼|快速動眼睡眠|快速動眼期",
    "unspecified": _SEVERITY["unspecified"],
}


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").casefold()
    return re.sub(r"[\s_]+", " ", folded).strip()


def _table(texts: Mapping[str, str]) -> dict[str, str]:
    """Return text -> code; the code is its own English text, and the first code keeps a text that two claim."""
    found = {_plain(code): code for code in texts}
    for code, listed in texts.items():
        for text in filter(None, listed.split("|")):
            found.setdefault(_plain(text), code)
    return found


TABLES: Mapping[str, Mapping[str, str]] = {
    name: _table(texts)
    for name, texts in {
        "severity": _SEVERITY,
        "flow": _FLOW,
        "cycle_name": _CYCLE_NAME,
        "cycle_value": _CYCLE_VALUE,
        "medication_status": _MEDICATION,
        "classification": _ECG,
        "symptom": _SYMPTOM,
        "sleep_stage": _SLEEP,
    }.items()
}
"""Of each kind of text: the text in small letters -> its code."""


def code(table: str, text: object) -> str | None:
    """Return the code of ``text``; None for what is not a text, or not known."""
    return TABLES[table].get(_plain(text)) if isinstance(text, str) else None
