use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(the_text_of_an_error_reaches_the_launcher),
    case!(the_causes_of_an_error_reach_the_launcher),
    case!(launcher_and_daemon_get_the_same_text),
    case!(a_long_text_is_cut),
    case!(the_text_of_a_panic_is_cut_at_two_kibibytes),
    case!(a_text_of_several_lines_stays_readable),
    case!(control_characters_in_a_text_are_escaped),
    case!(a_panic_in_the_text_of_an_error_is_survived),
];

/// The three failures that carry the text of an error, and the start of each message.
fn failing_with(error: &ErrorText) -> [(Scenario, &'static str, &'static str); 3] {
    let fallible = Fallible::from(error.clone());
    [
        (
            scenario!().try_privileged_action(fallible.clone()),
            "PrivilegedAction",
            "the privileged action failed",
        ),
        (
            scenario!().initialize(fallible),
            "Initialize",
            "the initialization failed",
        ),
        (
            daemon!().deferring([], ReadinessUse::Fail(error.clone())),
            "NotReady",
            "the daemon is not ready",
        ),
    ]
}

fn the_text_of_an_error_reaches_the_launcher() {
    for (scenario, kind, start) in failing_with(&"the disk is full: /srv, naïvely".into()) {
        let text = format!("{start}: the disk is full: /srv, naïvely");
        let error = scenario.pid_file("daemon.pid").fail();
        error.assert_is(kind, &text);
    }
    for (scenario, kind, start) in failing_with(&"".into()) {
        scenario.fail().assert_is(kind, start);
    }
}

fn the_causes_of_an_error_reach_the_launcher() {
    let causes = ["no server", "cannot read app.toml", "no such file"];
    let error = ErrorText::Chain(causes.map(str::to_owned).to_vec());
    for (scenario, kind, start) in failing_with(&error) {
        let text = format!("{start}: no server: cannot read app.toml: no such file");
        scenario.fail().assert_is(kind, &text);
    }
}

/// 10 kB of characters of two bytes each, the first at an odd offset.
fn long_text() -> String {
    "x".to_owned() + &"ä".repeat(5000)
}

fn failing_at_length() -> impl Iterator<Item = (Scenario, &'static str, &'static str)> {
    let panicking = scenario!().initialize([Step::Panic(long_text())]);
    failing_with(&ErrorText::Text(long_text()))
        .into_iter()
        .chain([(panicking, "Panicked", "the daemon panicked")])
}

fn launcher_and_daemon_get_the_same_text() {
    for (scenario, kind, _) in failing_at_length().filter(|(_, kind, _)| *kind != "NotReady") {
        let run = scenario.entry(Entry::Execute).launch();
        let error = run.launcher_error();
        assert_eq!(error.kind, kind);
        assert!(run.daemon_error() == error, "{} bytes", error.text.len());
    }
}

fn a_long_text_is_cut() {
    for (scenario, kind, start) in failing_at_length() {
        let error = scenario.fail();
        assert_eq!(error.kind, kind);
        let kept = error.text.strip_prefix(&format!("{start}: ")).unwrap();
        assert!(long_text().starts_with(kept), "{kept}");
        assert!((2000..=2048).contains(&kept.len()), "{}", kept.len());
    }
}

fn the_text_of_a_panic_is_cut_at_two_kibibytes() {
    for (character, kept) in [('x', 2048), ('€', 2048 / 3)] {
        let long = character.to_string().repeat(100_000);
        let text = format!(
            "the daemon panicked: {}",
            character.to_string().repeat(kept)
        );
        let scenario = daemon!().privileged_action([Step::Panic(long)]);
        let error = scenario.fail_in_launcher();
        assert_eq!(error, StartError::new("Panicked", None, &text));
    }
}

/// Parsers of configuration files report errors like this.
const PARSE_ERROR: &str = "\
TOML parse error at line 3, column 8
  |
3 | port = = 80
  |        ^
invalid string
";

/// The lines keep their alignment, and no line starts like a message of another program.
fn a_text_of_several_lines_stays_readable() {
    let below = "
    TOML parse error at line 3, column 8
      |
    3 | port = = 80
      |        ^
    invalid string";
    for (scenario, kind, start) in failing_with(&PARSE_ERROR.into()) {
        scenario.fail().assert_is(kind, &format!("{start}:{below}"));
    }
    let panicking = scenario!().privileged_action([Step::Panic(PARSE_ERROR.to_owned())]);
    let error = panicking.fail();
    let text = of_panic(PARSE_ERROR);
    let (_, place) = text.rsplit_once('\n').unwrap();
    error.assert_is(
        "Panicked",
        &format!("the daemon panicked:{below}\n    {place}"),
    );
    // The first line is indented, and the line ends are those of another system.
    for (scenario, kind, start) in failing_with(&"\r\n  a = = b\r\n\r\n\t  ^\r\n".into()) {
        let text = format!("{start}:\n      a = = b\n\n    \t  ^");
        scenario.fail().assert_is(kind, &text);
    }
}

fn control_characters_in_a_text_are_escaped() {
    let text = "over\rwritten\t\u{1b}[2J\0\u{7f}\u{9b}1m\u{202e}gpj\u{2028}.exe\u{2066}";
    let escaped =
        "over\\rwritten\t\\u{1b}[2J\\u{0}\\u{7f}\\u{9b}1m\\u{202e}gpj\\u{2028}.exe\\u{2066}";
    for (scenario, kind, start) in failing_with(&text.into()) {
        let text = format!("{start}: {escaped}");
        scenario.fail().assert_is(kind, &text);
    }
    let panicking = scenario!().privileged_action([Step::Panic(text.to_owned())]);
    let text = format!("the daemon panicked: {}", of_panic(escaped));
    panicking.fail().assert_is("Panicked", &text);
}

fn a_panic_in_the_text_of_an_error_is_survived() {
    let error = ErrorText::PanicsAfter("so far".to_owned());
    for (scenario, kind, start) in failing_with(&error) {
        let text = format!("{start}: so far (the `Display` of this error panicked)");
        scenario.fail().assert_is(kind, &text);
    }
}
