with bounds as (
    select min(partition_date) as first_day, max(partition_date) as last_day
    from {{ ref('stg_conversations') }}
),

days as (
    select cast(unnest(generate_series(first_day, last_day, interval 1 day)) as date) as d
    from bounds
    where first_day is not null
),

today as (
    select cast(timezone('{{ var("timezone") }}', now()) as date) as t
)

select
    d as date_key,
    year(d) as year, quarter(d) as quarter, month(d) as month, week(d) as week_of_year, day(d) as day_of_month,
    dayofweek(d) as day_of_week, dayofyear(d) as day_of_year,
    strftime(d, '%Y-%m') as year_month,
    year(d) || '-Q' || quarter(d) as year_quarter,
    monthname(d) as month_name, strftime(d, '%b') as month_name_short,
    dayname(d) as day_name, strftime(d, '%a') as day_name_short,
    cast(date_trunc('week', d) as date) as week_start_date,
    cast(date_trunc('week', d) + interval 6 day as date) as week_end_date,
    cast(date_trunc('month', d) as date) as month_start_date,
    last_day(d) as month_end_date,
    cast(date_trunc('quarter', d) as date) as quarter_start_date,
    cast(date_trunc('quarter', d) + interval 3 month - interval 1 day as date) as quarter_end_date,
    dayofweek(d) in (0, 6) as is_weekend,
    dayofweek(d) not in (0, 6) as is_weekday,
    d = t as is_today,
    d = t - 1 as is_yesterday,
    date_trunc('week', d) = date_trunc('week', t) as is_current_week,
    date_trunc('month', d) = date_trunc('month', t) as is_current_month,
    date_diff('day', d, t) as days_ago,
    date_diff('day', d, t) / 7.0 as weeks_ago
from days, today
