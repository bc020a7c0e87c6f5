//! Spans, sums, and how the database finds what is asked for.

use super::*;
use crate::store::state::{account_places, activity, in_memory, names};

#[test]
fn months_begin_where_the_calendar_says() {
    let day = |text: &str| {
        let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").unwrap();
        date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp() / 86_400
    };
    for (text, month) in
        [("1970-01-01", 1970 * 12), ("2024-02-29", 2024 * 12 + 1), ("2026-12-31", 2026 * 12 + 11)]
    {
        assert_eq!(month_of(day(text)), month, "{text}");
    }
    assert_eq!(first_day(2024 * 12 + 2), day("2024-03-01"));
    for month in 1969 * 12..2100 * 12 {
        let first = first_day(month);
        assert_eq!((month_of(first), month_of(first - 1)), (month, month - 1));
    }
}

/// A row of each table for one day, so many times.
fn lay(db: &Connection, day: i64, country: &str, n: i64) {
    let sql = |table: &str| {
        format!(
            "INSERT INTO {table} VALUES (?1, 'login', 'imap', ?2, 'succeeded', ?3) ON CONFLICT DO UPDATE SET n = n + ?3"
        )
    };
    db.execute(&sql("traffic_day"), params![day, country, n]).unwrap();
    db.execute(&sql("traffic_month"), params![month_of(day), country, n]).unwrap();
}

#[test]
fn any_span_sums_each_day_of_it_once() {
    let db = in_memory();
    let today = 20_000;
    for ago in 0..400 {
        // Powers of two would be too large: a sum of squares tells spans apart as well.
        lay(&db, today - ago, "DE", ago * ago + 1);
    }
    for days in [1, 2, 15, 28, 29, 30, 31, 32, 59, 60, 61, 62, 90, 364, 365, 366, 400] {
        let expected: i64 = (0..days).map(|ago| ago * ago + 1).sum();
        let found = by_country(&db, today - days + 1, today).unwrap();
        assert_eq!(found.iter().map(|f| f.n).collect::<Vec<_>>(), [expected], "{days} days");
    }
    assert_eq!(days_with_logins(&db, today - 29, today).unwrap(), 30);
}

#[test]
fn absurd_numbers_in_the_state_make_no_error() {
    let db = in_memory();
    lay(&db, 20_000, "DE", i64::MAX);
    lay(&db, 19_999, "DE", i64::MAX - 1_000_000);
    assert_eq!(by_country(&db, 19_999, 20_000).unwrap()[0].n, i64::MAX);
    let figures = ["9223372036854775807"; 9].join(",");
    for day in [19_999, 20_000] {
        db.execute(&format!("INSERT INTO account_day VALUES ({day}, 1, 'DE', 'imap', {figures})"), [])
            .unwrap();
    }
    assert_eq!(
        of_accounts(&db, &[1].into_iter().collect(), Span::Days(19_999, 20_000)).unwrap()[0].uses,
        [i64::MAX; 9]
    );
}

/// How the database goes about a query, one line a step.
fn plan(db: &Connection, sql: &str) -> Vec<String> {
    let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let parameters = vec![rusqlite::types::Value::Null; statement.parameter_count()];
    let rows = statement.query_map(rusqlite::params_from_iter(parameters), |row| row.get(3)).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn no_statistic_reads_events_and_each_goes_along_a_key() {
    let db = in_memory();
    let [of_day, of_days] = [Span::Days(0, 0).sql_of_one(), Span::Days(0, 0).sql_of_all()];
    let [of_month, of_months] = [Span::Months(0, 0).sql_of_one(), Span::Months(0, 0).sql_of_all()];
    let (place, of_one, network) = (account_places::BY_COUNTRY, account_places::BY_PART, places::NETWORKS);
    let [next, next_of_older] = account_places::NEXT_COUNTRY;
    let domain = names::DOMAIN;
    let [none_yet, none] = names::WITHOUT_DOMAIN;
    let by_account = [&of_day, &of_days, &of_month, &of_months].map(String::as_str);
    let others = [
        BY_COUNTRY,
        SUCCESS_DAYS,
        BY_REASON,
        place,
        network,
        of_one,
        next,
        next_of_older,
        domain,
        none_yet,
        none,
    ];
    for sql in by_account.into_iter().chain(others) {
        let steps = plan(&db, sql);
        let is_scan = |step: &&String| step.starts_with("SCAN") && !step.starts_with("SCAN (subquery");
        let scans: Vec<_> = steps.iter().filter(is_scan).collect();
        assert!(scans.is_empty(), "{sql}: {steps:?}");
        assert!(!steps.iter().any(|step| step.contains("activity")), "{sql}: {steps:?}");
        assert!(steps.iter().any(|step| step.starts_with("SEARCH")), "{sql}: {steps:?}");
    }
}

#[test]
fn whose_events_are_is_looked_up_without_a_look_at_each() {
    let db = in_memory();
    let all = plan(&db, &activity::whose_sql(&activity::Filter::default()));
    assert_eq!(all, ["SCAN activity USING COVERING INDEX activity_account"]);
    let filter = activity::Filter { country: "BR".into(), ..activity::Filter::default() };
    assert_eq!(plan(&db, &activity::whose_sql(&filter)), ["SCAN activity"]);
    let filter = activity::Filter { account: "a".into(), ..activity::Filter::default() };
    assert!(plan(&db, &activity::whose_sql(&filter))[0].contains("activity_account"));
}

#[test]
fn activity_is_searched_by_an_index_whatever_is_looked_for() {
    let db = in_memory();
    let given = |field: fn(&mut activity::Filter) -> &mut String| {
        let mut filter = activity::Filter { limit: 10, ..activity::Filter::default() };
        *field(&mut filter) = "x".into();
        plan(&db, &activity::list_sql(&filter, "id, account"))
    };
    for (steps, index) in [
        (given(|f| &mut f.account), "activity_account"),
        (given(|f| &mut f.reference), "activity_reference"),
        (given(|f| &mut f.address), "activity_same"),
        (given(|f| &mut f.reason), "activity_same"),
        (given(|f| &mut f.country), "activity_same"),
    ] {
        assert!(steps[0].starts_with("SEARCH") && steps[0].contains(index), "{steps:?}");
    }
}
