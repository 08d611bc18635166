//! Messages of a chat ─► their texts, and the image of one of them

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, SeqAccess, Visitor};
use text::Message;

use super::error::ApiError;
use super::limits::RequestLimits;
use super::values::List;
use crate::engine::ImageInput;

/// The most messages of a request.
pub(crate) const MAX_MESSAGES: usize = 1024;
/// The most parts of a message.
const MAX_PARTS: usize = 64;

/// A message of a request.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ChatMessage {
    role: Role,
    #[serde(default)]
    content: Option<Content>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    System,
    /// What newer models call the system prompt.
    Developer,
    User,
    Assistant,
}

impl Role {
    /// The role in a chat template.
    fn name(self) -> &'static str {
        match self {
            Self::System | Self::Developer => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// A message's text, or its parts.
#[derive(Debug, Clone)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

/// A part of a message: a text or an image.
#[derive(Debug, Clone, Deserialize)]
struct Part {
    r#type: String,
    text: Option<String>,
    image_url: Option<ImageUrl>,
}

#[derive(Debug, Clone, Deserialize)]
struct ImageUrl {
    url: String,
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ContentVisitor;

        impl<'de> Visitor<'de> for ContentVisitor {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of parts")
            }

            fn visit_str<E>(self, text: &str) -> Result<Content, E> {
                Ok(Content::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Content, A::Error> {
                let parts = List::<Part, MAX_PARTS>::deserialize(SeqAccessDeserializer::new(seq))?;
                Ok(Content::Parts(parts.0))
            }
        }

        deserializer.deserialize_any(ContentVisitor)
    }
}

/// The texts of a conversation, and its image as a `data:` URL.
#[derive(Debug)]
pub(crate) struct Conversation {
    pub messages: Vec<Message>,
    pub image_url: Option<String>,
}

impl Conversation {
    /// Takes the texts and the image out of messages.
    ///
    /// # Errors
    /// 400 for no message, for parts other than text and one image, and for texts beyond the limit.
    pub fn new(messages: Vec<ChatMessage>, limits: &RequestLimits) -> Result<Self, ApiError> {
        let invalid = |message: String| Err(ApiError::invalid_param("messages", message));
        if messages.is_empty() {
            return invalid("messages is empty, expected at least one message".into());
        }
        let mut conversation = Self { messages: Vec::new(), image_url: None };
        for (i, ChatMessage { role, content }) in messages.into_iter().enumerate() {
            let text = match content {
                None => String::new(),
                Some(Content::Text(text)) => text,
                Some(Content::Parts(parts)) => {
                    conversation.take_parts(&format!("messages[{i}].content"), role, parts)?
                }
            };
            conversation.messages.push(Message::new(role.name(), text));
        }
        let bytes = conversation.messages.iter().map(|message| message.content.len()).sum();
        check_prompt_bytes("messages", bytes, limits)?;
        Ok(conversation)
    }

    /// The text of parts; keeps the image.
    fn take_parts(&mut self, path: &str, role: Role, parts: Vec<Part>) -> Result<String, ApiError> {
        let mut texts = Vec::new();
        for (i, part) in parts.into_iter().enumerate() {
            let invalid = |what: &str| {
                Err(ApiError::invalid_param(format!("{path}[{i}]"), format!("{path}[{i}]: {what}")))
            };
            match (part.r#type.as_str(), part.text, part.image_url) {
                ("text" | "input_text", Some(text), _) => texts.push(text),
                ("image_url", _, Some(_)) if role != Role::User => {
                    return invalid("an image is only for messages of the user");
                }
                ("image_url", _, Some(image)) => {
                    if self.image_url.replace(image.url).is_some() {
                        return invalid("a second image, expected one in the whole conversation");
                    }
                }
                (kind @ ("text" | "input_text" | "image_url"), ..) => {
                    return invalid(&format!("a part of type `{kind}` without its value"));
                }
                (kind, ..) => {
                    return invalid(&format!(
                        "a part of type `{kind}`, expected `text` or `image_url`"
                    ));
                }
            }
        }
        Ok(texts.join("\n"))
    }
}

/// Checks the length of a request's texts.
///
/// # Errors
/// 400 beyond the limit.
pub(crate) fn check_prompt_bytes(
    param: &'static str,
    bytes: usize,
    limits: &RequestLimits,
) -> Result<(), ApiError> {
    let limit = limits.prompt_bytes;
    if bytes > limit {
        let message = format!("{param} has {bytes} bytes of text, expected at most {limit}");
        return Err(ApiError::invalid_param(param, message));
    }
    Ok(())
}

/// Decodes the image of a `data:` URL.
///
/// # Errors
/// 400 for other URLs, for anything but base64 of a JPEG, PNG or WebP file, and beyond the limits.
pub(crate) fn decode_image_url(
    url: &str,
    limits: &RequestLimits,
) -> Result<Arc<ImageInput>, ApiError> {
    let invalid = |message: String| ApiError::invalid_param("messages", message);
    let Some(data) = url.strip_prefix("data:") else {
        let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
        let message = format!(
            "an image URL begins with `{}:`, expected `data:image/png;base64,...`: the server \
             fetches nothing",
            scheme.chars().take(10).collect::<String>().escape_debug()
        );
        return Err(invalid(message));
    };
    let Some((_kind, base64)) = data.split_once(";base64,") else {
        return Err(invalid(
            "a data URL without `;base64,`, expected `data:image/png;base64,...`".into(),
        ));
    };
    // Four characters are three bytes: a file that is too large is not decoded for its error.
    let (bytes, limit) = (base64.len() as u64 / 4 * 3, limits.image.file_bytes);
    if bytes > limit {
        return Err(invalid(format!("an image of {bytes} bytes, expected at most {limit}")));
    }
    let bytes = STANDARD
        .decode(base64)
        .map_err(|error| invalid(format!("an image URL that is not base64: {error}")))?;
    let image = vision::decode_image_within(Path::new("image"), &bytes, &limits.image)
        .map_err(|error| invalid(error.to_string()))?;
    Ok(Arc::new(ImageInput::new(image)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use vision::ImageLimits;

    use super::*;

    fn conversation(messages: Value) -> Result<Conversation, ApiError> {
        let messages = serde_json::from_value::<Vec<ChatMessage>>(messages).unwrap();
        Conversation::new(messages, &RequestLimits::default())
    }

    fn failure(messages: Value) -> (String, String) {
        let error = conversation(messages).unwrap_err();
        assert_eq!(error.status, 400);
        (error.param.unwrap(), error.message)
    }

    #[test]
    fn text_parts_are_joined_and_a_developer_is_the_system() {
        let parts = json!([{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]);
        let found = conversation(json!([
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": parts, "name": "Ada"},
            {"role": "assistant", "content": null},
        ]));
        let expected = [("system", "Be brief."), ("user", "one\ntwo"), ("assistant", "")];
        let expected = expected.map(|(role, content)| Message::new(role, content));
        assert_eq!(found.unwrap().messages, expected);
    }

    #[test]
    fn a_wrong_part_is_named() {
        let image = json!({"type": "image_url", "image_url": {"url": "data:"}});
        let message = |role: &str, parts: Value| json!([{"role": role, "content": parts}]);
        let (param, text) = failure(message("user", json!([{"type": "input_audio"}])));
        assert_eq!(param, "messages[0].content[0]");
        assert!(text.ends_with("`input_audio`, expected `text` or `image_url`"), "{text}");
        let (param, _) = failure(message("user", json!([image, image])));
        assert_eq!(param, "messages[0].content[1]");
        failure(message("assistant", json!([image])));
        failure(message("user", json!([{"type": "text"}])));
        failure(json!([]));
    }

    #[test]
    fn a_long_text_is_refused() {
        let limits = RequestLimits { prompt_bytes: 3, ..RequestLimits::default() };
        let messages =
            json!([{"role": "user", "content": "ab"}, {"role": "user", "content": "cd"}]);
        let messages = serde_json::from_value::<Vec<ChatMessage>>(messages).unwrap();
        let error = Conversation::new(messages, &limits).unwrap_err();
        assert_eq!(error.message, "messages has 4 bytes of text, expected at most 3");
    }

    /// A white PNG file as a data URL.
    fn png_url(width: u32, height: u32) -> String {
        let mut bytes = std::io::Cursor::new(Vec::new());
        let image = image::RgbImage::from_pixel(width, height, image::Rgb([255; 3]));
        image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        format!("data:image/png;base64,{}", STANDARD.encode(bytes.into_inner()))
    }

    #[test]
    fn an_image_is_decoded() {
        let image = decode_image_url(&png_url(4, 3), &RequestLimits::default()).unwrap();
        assert_eq!(image.image().dimensions(), (4, 3));
    }

    #[test]
    fn wrong_images_are_refused() {
        let image = ImageLimits { side: 64, file_bytes: 1 << 10, ..ImageLimits::UNTRUSTED };
        let limits = RequestLimits { image, ..RequestLimits::default() };
        let message = |url: &str| decode_image_url(url, &limits).unwrap_err().message;
        assert!(message("https://example.org/a.png").contains("begins with `https:`"));
        assert!(message("a.png").contains("expected `data:image/png;base64,...`"));
        assert!(message("data:image/png,abc").contains("without `;base64,`"));
        assert!(message("data:image/png;base64,????").contains("not base64"));
        assert!(message("data:image/png;base64,AAAA").contains("neither JPEG nor PNG nor WebP"));
        assert!(message(&png_url(65, 1)).contains("65"));
        let large = format!("data:image/png;base64,{}", "A".repeat(2 << 10));
        assert!(message(&large).contains("bytes, expected at most 1024"));
    }
}
