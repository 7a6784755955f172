use super::*;

fn answer(ranges: &[(i64, i64, &str, i64)]) -> Value {
    let text = |it: &str| Value::BulkString(it.into());
    let range = |&(first, last, host, port): &(i64, i64, &str, i64)| {
        let owner =
            Value::Array(vec![text(host), Value::Int(port), text("id"), Value::Array(vec![])]);
        Value::Array(vec![Value::Int(first), Value::Int(last), owner.clone(), owner])
    };
    Value::Array(ranges.iter().map(range).collect())
}

#[test]
fn an_answer_says_who_has_which_slots_or_is_none() {
    let from = RedisAddress::Tcp { host: "asked".into(), port: 1 };
    let read = |ranges_: &[(i64, i64, &str, i64)]| {
        let found = ranges(&answer(ranges_), &from)?;
        Some(
            found
                .iter()
                .map(|it| format!("{}-{} {}", it.first, it.last, it.owner))
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(read(&[]), Some(vec![]));
    let two = read(&[(0, 8_191, "a", 1), (8_192, 16_383, "", 2)]);
    assert_eq!(two, Some(vec!["0-8191 a:1".into(), "8192-16383 asked:2".into()]));
    assert_eq!(read(&[(0, 16_384, "a", 1)]), None);
    assert_eq!(read(&[(-1, 1, "a", 1)]), None);
    assert_eq!(read(&[(2, 1, "a", 1)]), None);
    assert_eq!(read(&[(0, 1, "a", 65_536)]), None);
    assert_eq!(ranges(&Value::Okay, &from), None);
    assert_eq!(ranges(&Value::Array(vec![Value::Nil]), &from), None);
}
