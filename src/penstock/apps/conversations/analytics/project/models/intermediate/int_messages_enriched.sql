with placed as (
    select *, timezone('{{ var("timezone") }}', effective_timestamp) as local_time, lower(message_content) as lowered
    from {{ ref('stg_messages') }}
)

select
    conversation_id, session_id, project_id, role, message_content, content_length, message_sequence, turn_type, previous_role,
    seconds_since_previous, effective_timestamp, partition_date,
    hour(local_time) as hour_of_day,
    dayofweek(local_time) as day_of_week,
    week(local_time) as week_of_year,
    month(local_time) as month_of_year,
    case
        when hour(local_time) between 6 and 11 then 'morning'
        when hour(local_time) between 12 and 17 then 'afternoon'
        when hour(local_time) between 18 and 21 then 'evening'
        else 'night'
    end as time_of_day,
    case when dayofweek(local_time) in (0, 6) then 'weekend' else 'weekday' end as day_type,
    case
        when regexp_matches(lowered, '\b(fix(es|ed|ing)?|bugs?|errors?|broken|crash(es|ed)?|fail(s|ed|ing)?)\b') then 'bug_fix'
        when regexp_matches(lowered, '\b(add(s|ed|ing)?|implement(s|ed|ing)?|create[sd]?|creating|features?|build)\b') then 'feature'
        when regexp_matches(lowered, '\b(refactor(s|ed|ing)?|clean ?up|rename[sd]?|restructure[sd]?|simplify)\b') then 'refactor'
        when regexp_matches(lowered, '\b(tests?|testing|coverage|pytest|jest)\b') then 'testing'
        when regexp_matches(lowered, '\b(docs?|document(s|ed|ation)?|readme|comments?)\b') then 'documentation'
        when regexp_matches(lowered, '\b(review(s|ed|ing)?|audit|inspect)\b') then 'review'
        else 'other'
    end as task_category,
    contains(message_content, '```') as has_code_block,
    contains(lowered, 'http') as has_url,
    contains(message_content, '?') as is_question,
    source_file
from placed
