//! What Markdown becomes, and what never gets through.

use proptest::prelude::*;

use super::*;

/// Asserts that every tag of `html` is in the list, with no attribute that could load or run anything.
fn assert_harmless(html: &str) {
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        rest = &rest[start + 1..];
        let tag = read_tag(&mut rest);
        let (name, attributes) = tag;
        let name = name.strip_prefix('/').unwrap_or(name);
        assert!(TAGS.contains(&name), "<{name}> in {html}");
        for (key, value) in attributes {
            let good = match (name, key) {
                ("a", "href") => ["http:", "https:", "mailto:"]
                    .iter()
                    .any(|scheme| value.to_lowercase().starts_with(scheme)),
                ("a", "rel") => value == "noopener nofollow",
                ("a", "target") => value == "_blank",
                ("code", "class") => value.starts_with("language-") && !value.contains(' '),
                ("ol", "start") => value.parse::<u64>().is_ok(),
                ("td" | "th", "align") => ["left", "center", "right"].contains(&value),
                _ => false,
            };
            assert!(good, "<{name} {key}={value:?}> in {html}");
        }
    }
}

/// Name and attributes of the tag whose `<` has just been read, as a browser reads them.
fn read_tag<'a>(rest: &mut &'a str) -> (&'a str, Vec<(&'a str, &'a str)>) {
    let take = |rest: &mut &'a str, end: &[char]| {
        let (taken, left) = rest.split_at(rest.find(end).expect("an end of the tag"));
        *rest = left;
        taken
    };
    let name = take(rest, &[' ', '>']);
    let mut attributes = Vec::new();
    while rest.starts_with(' ') {
        *rest = &rest[1..];
        let key = take(rest, &['=']);
        *rest = rest.strip_prefix("=\"").expect("a value in quotes");
        let value = take(rest, &['"']);
        *rest = &rest[1..];
        attributes.push((key, value));
    }
    *rest = rest.strip_prefix('>').expect("the end of the tag");
    (name, attributes)
}

#[test]
fn markdown_has_its_elements() {
    let text =
        "# A\n\n*b* **c** ~~d~~ `e`\n\n- f\n- g\n\n3. h\n\n> i\n\n---\n\n[j](https://k.l/m)\n";
    let expected = "<h1>A</h1>\n<p><em>b</em> <strong>c</strong> <del>d</del> <code>e</code></p>\n\
            <ul>\n<li>f</li>\n<li>g</li>\n</ul>\n<ol start=\"3\">\n<li>h</li>\n</ol>\n\
            <blockquote>\n<p>i</p>\n</blockquote>\n<hr>\n\
            <p><a href=\"https://k.l/m\" target=\"_blank\" rel=\"noopener nofollow\">j</a></p>\n";
    assert_eq!(render(text), expected);
}

#[test]
fn columns_of_tables_keep_their_alignment() {
    let html = render("| a | b |\n|---|--:|\n| 1 | `<td style=\"text-align: left\">` |\n");
    assert!(html.contains("<th>a</th><th align=\"right\">b</th>"), "{html}");
    assert!(html.contains("&lt;td style=\"text-align: left\"&gt;"), "{html}");
}

#[test]
fn code_keeps_its_language_but_no_other_class() {
    let class = |info: &str| {
        let html = render(&format!("```{info}\nx\n```\n"));
        html.split_once("class=\"").map(|(_, rest)| rest.split('"').next().unwrap().to_owned())
    };
    assert_eq!(class("rust").as_deref(), Some("language-rust"));
    assert_eq!(class("rust,ignore").as_deref(), Some("language-rust"));
    assert_eq!(class("c++").as_deref(), Some("language-c++"));
    assert_eq!(class("\u{a0}strong\u{a0}icon"), None);
    assert_eq!(class(""), None);
}

#[test]
fn line_breaks_stay() {
    assert_eq!(render("a\nb"), "<p>a<br>\nb</p>\n");
}

#[test]
fn tasks_are_shown_without_form_elements() {
    let expected = "<ul>\n<li>☑ a</li>\n<li>☐ b</li>\n</ul>\n";
    assert_eq!(render("- [x] a\n- [ ] b\n"), expected);
}

#[test]
fn html_stays_text() {
    let html = render(
        "a <b onclick=\"x()\">\n\n<img src=x onerror=alert(1)>\n\n<script>\nalert(1)\n</script>\n",
    );
    assert_harmless(&html);
    for text in [
        "&lt;b onclick=\"x()\"&gt;",
        "&lt;img src=x onerror=alert(1)&gt;",
        "&lt;script&gt;<br>\nalert(1)<br>\n&lt;/script&gt;",
    ] {
        assert!(html.contains(text), "{text} is missing in {html}");
    }
}

#[test]
fn html_in_every_place_of_markdown_stays_text() {
    let bad = "<svg onload=alert(1)>";
    let places = [
        format!("# {bad}"),
        format!("- {bad}"),
        format!("> {bad}"),
        format!("**{bad}**"),
        format!("[{bad}](https://a.b)"),
        format!("![{bad}](https://a.b)"),
        format!("[a](https://a.b \"{bad}\")"),
        format!("[a](<https://a.b/\"{bad}>)"),
        format!("| {bad} |\n|---|\n| {bad} |"),
        format!("```{bad}\n{bad}\n```"),
        format!("`{bad}`"),
        format!("[^1]: {bad}"),
        format!("<https://a.b/{bad}>"),
    ];
    for place in places {
        let html = render(&place);
        assert_harmless(&html);
        assert!(!html.contains("<svg"), "{html}");
    }
}

#[test]
fn links_lead_to_the_web_and_to_mail_only() {
    let targets = [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        " javascript:alert(1)",
        "java&#x0A;script:alert(1)",
        "java&Tab;script:alert(1)",
        "&#106;avascript:alert(1)",
        "vbscript:x",
        "data:text/html;base64,PHNjcmlwdD4=",
        "file:///etc/passwd",
        "blob:https://a.b/c",
        "/admin/adapters",
        "//elsewhere.example",
        "?a=b",
    ];
    for target in targets {
        for text in [
            format!("[a](<{target}>)"),
            format!("[a]({target})"),
            format!("![a](<{target}>)"),
            format!("<{target}>"),
            format!("[a]\n\n[a]: {target}\n"),
        ] {
            let html = render(&text);
            assert_harmless(&html);
            assert!(!html.contains("href"), "{html}");
        }
    }
    assert!(render("<https://a.b> <mailto:a@b.c>").matches("href").count() == 2);
}

#[test]
fn images_are_links_because_loading_them_would_tell_their_server() {
    let html = render("![a *cat*](https://a.b/c.png)");
    assert_harmless(&html);
    assert!(
        html.contains("href=\"https://a.b/c.png\"") && html.contains("a <em>cat</em>"),
        "{html}"
    );
}

#[test]
fn deep_nesting_is_cut_off() {
    for text in [
        ">".repeat(10_000),
        "*a ".repeat(10_000) + &"b* ".repeat(10_000),
        "- ".repeat(10_000) + "a",
    ] {
        let html = render(&text);
        assert_harmless(&html);
        let mut depth = 0_i32;
        let mut deepest = 0;
        for (i, _) in html.match_indices('<') {
            depth += if html[i..].starts_with("</") { -1 } else { 1 };
            deepest = deepest.max(depth);
        }
        assert!(deepest <= MAX_DEPTH as i32, "{deepest} levels");
    }
}

/// Inputs that make naive renderers slow or their output huge, at the largest size.
#[test]
fn the_largest_texts_have_output_of_a_similar_size() {
    let texts = [
        (
            "a table that fills up rows",
            format!("|{}\n|{}\n", "a|".repeat(2_000), "-|".repeat(2_000)) + &"|\n".repeat(124_000),
        ),
        (
            "a long link target used often",
            format!("[a]: https://{}\n\n", "b".repeat(130_000)) + &"[a] ".repeat(32_000),
        ),
        ("opening brackets", "[".repeat(MAX_BYTES)),
        ("opening tags", "<a ".repeat(MAX_BYTES / 3)),
        ("ampersands", "&".repeat(MAX_BYTES)),
        ("backticks", (1..700).map(|n| "`".repeat(n) + " ").collect()),
        ("emphasis", "**a *a ".repeat(MAX_BYTES / 7)),
    ];
    for (name, mut text) in texts {
        text.truncate(MAX_BYTES);
        let html = render(&text);
        assert!(html.len() <= 8 * MAX_BYTES, "{name}: {} bytes", html.len());
    }
}

proptest! {
    #[test]
    fn no_text_has_harmful_html(text in any::<String>()) {
        assert_harmless(&render(&text));
    }

    #[test]
    fn no_mixture_of_markdown_and_html_has_harmful_html(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40)
    ) {
        assert_harmless(&render(&pieces.concat()));
    }
}

/// Beginnings, ends and middles of Markdown and HTML.
const PIECES: &[&str] = &[
    "a",
    " ",
    "\n",
    "\n\n",
    "    ",
    "\t",
    "\"",
    "'",
    "\\",
    "\0",
    "\u{202e}",
    "&lt;",
    "&#60;",
    "&",
    "<",
    ">",
    "</",
    "/>",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "<?",
    "?>",
    "<!",
    "<script>",
    "</script>",
    "<style>",
    "</style>",
    "<img src=x onerror=a()>",
    "<svg/onload=a()>",
    "<math>",
    "<mtext>",
    "<table>",
    "<td>",
    "</td>",
    "<p title=\"",
    "<a href=",
    "<noscript>",
    "<textarea>",
    "<title>",
    "<xmp>",
    "<iframe srcdoc=\"",
    "*",
    "**",
    "_",
    "~~",
    "`",
    "```",
    "~~~",
    "# ",
    "> ",
    "- ",
    "1. ",
    "- [x] ",
    "|",
    "|-|\n",
    "---",
    "===",
    "[",
    "]",
    "(",
    ")",
    "![",
    "](",
    "]: ",
    "[a]: ",
    "javascript:a()",
    "https://b.c/",
    "data:text/html,",
    "<https://",
    "mailto:d@e.f",
    "[^1]",
    "[^1]: ",
    "$$",
    ":-:",
    "language-",
    "style=\"text-align: ",
    "<th style=\"text-align: ",
];
