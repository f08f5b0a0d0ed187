//! The document: one HTML page with its style and scripts in it, and nothing from elsewhere.

use crate::http::Answer;

const BODY: &str = include_str!("web/index.html");
const STYLE: &str = include_str!("web/style.css");
/// In the order in which each finds what it needs before it.
const SCRIPTS: [&str; 10] = [
    include_str!("web/text.js"),
    include_str!("web/model.js"),
    include_str!("web/layout.js"),
    include_str!("web/draw.js"),
    include_str!("web/view.js"),
    include_str!("web/chart.js"),
    include_str!("web/tables.js"),
    include_str!("web/log.js"),
    include_str!("web/stream.js"),
    include_str!("web/main.js"),
];

/// The page, put together once, with places for the nonce.
pub(crate) struct Document(Vec<String>);

impl Document {
    pub(crate) fn new() -> Self {
        let page = BODY
            .replace("<!--style-->", &format!("<style nonce=\"\0\">\n{STYLE}</style>"))
            .replace(
                "<!--scripts-->",
                &format!("<script type=\"module\" nonce=\"\0\">\n{}</script>", SCRIPTS.concat()),
            );
        Self(page.split('\0').map(str::to_owned).collect())
    }

    /// The page with a nonce of its own: a style or script that somebody slipped in does not have it.
    pub(crate) fn answer(&self) -> Answer {
        let mut random = [0; 16];
        if getrandom::fill(&mut random).is_err() {
            let text = "the system gives no random bytes";
            return Answer::refused("503 Service Unavailable", text);
        }
        let nonce = hex::encode(random);
        let policy = format!(
            "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
             connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'; require-trusted-types-for 'script'"
        );
        let page = self.0.join(&nonce);
        Answer::found("text/html; charset=utf-8", page).with("Content-Security-Policy", policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_whole_and_nothing_in_it_leads_elsewhere_or_writes_html() {
        let page = Document::new().0.concat();
        assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
        assert!(!page.contains("<!--"), "a place was not filled");
        let lower = page.to_lowercase();
        for word in [
            "http://",
            "https://",
            "url(",
            "@import",
            "src=",
            "innerhtml",
            "outerhtml",
            "insertadjacent",
            "document.write",
            "eval(",
            "new function",
            " onclick=",
            " onload=",
            " style=",
            "settimeout(\"",
        ] {
            assert!(!lower.contains(word), "{word}");
        }
        assert_eq!(page.matches("</script>").count(), 1, "a script ends early");
        assert_eq!(page.matches("</style>").count(), 1);
    }

    #[test]
    fn each_file_has_one_job_and_is_short() {
        for file in SCRIPTS.iter().chain([&STYLE, &BODY]) {
            let lines = file.lines().count();
            assert!(lines < 500, "{lines} lines: {:?}", file.lines().next());
        }
    }
}
