//! How long backends drain, and what becomes of TCP segments of no flow, as configurations and annotations say it.

use std::time::Duration;

use levee_api::program::MidStream;

/// Longer is "until they end", which is what leaving it out means.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Reads how long backends drain: whole seconds, at least one; `none` is until their flows end.
///
/// # Errors
/// What was expected.
pub fn drain(text: &str) -> Result<Option<u32>, String> {
    let text = text.trim();
    if text == "none" {
        return Ok(None);
    }
    let shown: String = text.chars().take(40).collect();
    let bad = || format!("`{shown}` is no time to drain: expected 1s to 30days, such as `5m`, or `none`");
    let time = humantime::parse_duration(text).map_err(|_| bad())?;
    let seconds = u32::try_from(time.as_secs()).map_err(|_| bad())?;
    if seconds == 0 || time > LONGEST || time.subsec_nanos() != 0 { Err(bad()) } else { Ok(Some(seconds)) }
}

/// Reads what becomes of TCP segments of no flow.
///
/// # Errors
/// What was expected.
pub fn mid_stream(text: &str) -> Result<MidStream, String> {
    match text.trim() {
        "reset" => Ok(MidStream::Reset),
        "hash" => Ok(MidStream::Hash),
        "drop" => Ok(MidStream::Drop),
        other => {
            let shown: String = other.chars().take(40).collect();
            Err(format!(
                "`{shown}` is no word for what becomes of segments of no flow: expected `reset`, `hash` or `drop`"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_words_are_read_or_refused() {
        assert_eq!(drain("5m"), Ok(Some(300)));
        assert_eq!(drain(" none "), Ok(None));
        for text in ["", "0s", "1500ms", "31days", "soon", "-1s", "99999999999h"] {
            let why = drain(text).expect_err(text);
            assert!(why.contains("expected 1s to 30days"), "{why}");
        }
        assert_eq!(mid_stream("drop"), Ok(MidStream::Drop));
        assert!(mid_stream("pass").expect_err("no word").contains("expected `reset`, `hash` or `drop`"));
    }
}
