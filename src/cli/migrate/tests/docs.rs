use super::*;

/// The rules of the sample in the page.
const RULES: &str = "\
domain: shop
descriptors:
  - key: user
    rate_limit: {unit: minute, requests_per_unit: 10, shadow_mode: true}
";

#[test]
fn the_sample_of_the_page_is_what_the_command_prints() {
    let page = include_str!("../../../../docs/migrate.md");
    let sample = page.split("```console\n").nth(1).unwrap().split("```").next().unwrap();
    let (environment, command) = sample.split_once("\n\n$ tollgate migrate ").unwrap();
    let environment = environment.strip_prefix("$ cat ratelimit.env\n").unwrap();
    let expected = command.strip_prefix("ratelimit.env --rules config/\n").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let at = |it: &str| directory.path().join(it);
    fs::create_dir(at("config")).unwrap();
    fs::write(at("ratelimit.env"), environment).unwrap();
    fs::write(at("config/shop.yaml"), RULES).unwrap();
    let migration = Migration {
        environment: Some(at("ratelimit.env")),
        rules: Some(at("config")),
        ..Migration::default()
    };
    let mut out = Vec::new();
    assert_eq!(migrate(&migration, &mut out).unwrap(), Status::No);
    let out = String::from_utf8(out).unwrap();
    assert_eq!(out.replace(&format!("{}/", directory.path().display()), ""), expected);
}
