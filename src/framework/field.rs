//! One field of a path: its name, its type, and how JSON is converted to that type, with Vault's own
//! coercions (`"5"` for an integer, `"30d"` for a duration, `"true"` for a boolean).

use secrecy::SecretString;
use serde_json::Value;

use super::duration;

/// A field of a path. Create it with a constructor for its type, then refine it.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its name in requests.
    pub name: &'static str,
    /// Its type.
    pub kind: FieldKind,
    /// For help and OpenAPI: what it means, with its unit and default.
    pub description: &'static str,
    /// The allowed values, if it is an enumeration.
    pub allowed: &'static [&'static str],
    /// Whether `null` clears the field.
    pub nullable: bool,
    /// Whether it must be given when the object is created. For documentation only: the engine knows
    /// whether it creates an object, and enforces this.
    pub required: bool,
    /// Whether it is given in the URL's query instead of the body.
    pub query: bool,
    /// The default, as documented.
    pub default: Option<&'static str>,
}

/// The type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// One line of text, without control characters.
    Text {
        /// The maximum length, in characters.
        longest: usize,
    },
    /// Multi-line text, such as PEM.
    Lines {
        /// The maximum length, in characters.
        longest: usize,
    },
    /// One line that is never shown.
    Secret,
    /// A segment of the path.
    Name,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// `true` or `false`.
    Switch,
    /// A duration: seconds, or text such as `90m` or `30d`.
    Duration,
    /// Several texts: an array, or one text with commas between them.
    List,
}

/// The parsed value of a field.
#[derive(Debug, Clone)]
pub enum FieldValue {
    /// `null`.
    Null,
    /// Text, lines or a name.
    Text(String),
    /// A secret.
    Secret(SecretString),
    /// A whole number.
    Integer(i64),
    /// A finite number.
    Number(f64),
    /// A switch.
    Switch(bool),
    /// A duration in whole seconds, not negative.
    Seconds(u64),
    /// Several texts, none of them empty.
    List(Vec<String>),
}

impl Field {
    /// One line of text of at most 512 characters.
    pub const fn text(name: &'static str, description: &'static str) -> Self {
        Self::new(name, FieldKind::Text { longest: 512 }, description)
    }

    /// Multi-line text, at most 64 KiB.
    pub const fn lines(name: &'static str, description: &'static str) -> Self {
        Self::new(name, FieldKind::Lines { longest: 65_536 }, description)
    }

    /// Text that is never shown.
    pub const fn secret(name: &'static str, description: &'static str) -> Self {
        Self::new(name, FieldKind::Secret, description)
    }

    /// A segment of the path.
    pub const fn name(name: &'static str, description: &'static str) -> Self {
        Self::new(name, FieldKind::Name, description)
    }

    /// A whole number.
    pub const fn integer(name: &'static str, description: &'static str) -> Self {
        Self::new(name, FieldKind::Integer, description)
    }

    /// A number.
    pub const fn number(name: &'static str, description: &'static str) -> Self {
        Self::new(name, FieldKind::Number, description)
    }

    /// `true` or `false`.
    pub const fn switch(name: &'static str, description: &'static str) -> Self {
        Self::new(name, FieldKind::Switch, description)
    }

    /// A duration.
    pub const fn duration(name: &'static str, description: &'static str) -> Self {
        Self::new(name, FieldKind::Duration, description)
    }

    /// Several texts.
    pub const fn list(name: &'static str, description: &'static str) -> Self {
        Self::new(name, FieldKind::List, description)
    }

    const fn new(name: &'static str, kind: FieldKind, description: &'static str) -> Self {
        Self {
            name,
            kind,
            description,
            allowed: &[],
            nullable: false,
            required: false,
            query: false,
            default: None,
        }
    }

    /// Restricts the field to these values.
    pub const fn one_of(mut self, allowed: &'static [&'static str]) -> Self {
        self.allowed = allowed;
        self
    }

    /// `null` clears the field.
    pub const fn nullable(mut self) -> Self {
        self.nullable = true;
        self
    }

    /// The field must be given at creation.
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// The field is given in the URL's query.
    pub const fn query(mut self) -> Self {
        self.query = true;
        self
    }

    /// The documented default.
    pub const fn default(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    /// Parses a value. As in Vault, `null` for a field that cannot be cleared counts as not given and
    /// returns `None`. If `null` clears the field, empty text clears it too, because `vault write`
    /// cannot send `null`.
    ///
    /// # Errors
    /// What the field requires, as the end of a sentence.
    pub fn parse(&self, value: &Value) -> Result<Option<FieldValue>, String> {
        if value.is_null() || self.nullable && value.as_str() == Some("") {
            return Ok(self.nullable.then_some(FieldValue::Null));
        }
        let parsed = match self.kind {
            FieldKind::Text { longest } => one_line(value, longest).map(FieldValue::Text),
            FieldKind::Name => one_line(value, 256).map(FieldValue::Text),
            FieldKind::Lines { longest } => text(value, longest).map(FieldValue::Text),
            FieldKind::Secret => secret(value).map(|t| FieldValue::Secret(t.into())),
            FieldKind::Integer => integer(value).map(FieldValue::Integer),
            FieldKind::Number => number(value).map(FieldValue::Number),
            FieldKind::Switch => switch(value).map(FieldValue::Switch),
            FieldKind::Duration => seconds(value).map(FieldValue::Seconds),
            FieldKind::List => list(value).map(FieldValue::List),
        }?;
        match &parsed {
            FieldValue::Text(text)
                if !self.allowed.is_empty() && !self.allowed.contains(&text.as_str()) =>
            {
                Err(format!("must be one of: {}", self.allowed.join(", ")))
            }
            _ => Ok(Some(parsed)),
        }
    }
}

/// Vault also accepts numbers and booleans as text.
fn text(value: &Value, longest: usize) -> Result<String, String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(true) => "1".to_owned(),
        Value::Bool(false) => "0".to_owned(),
        _ => return Err("must be text".to_owned()),
    };
    if text.chars().count() > longest {
        return Err(format!("must have at most {longest} characters"));
    }
    Ok(text)
}

fn one_line(value: &Value, longest: usize) -> Result<String, String> {
    let text = text(value, longest)?;
    if text.chars().any(char::is_control) {
        return Err("must be one line without control characters".to_owned());
    }
    Ok(text)
}

/// `vault write key=- <file` sends the whole file. The line end is not part of the secret.
fn secret(value: &Value) -> Result<String, String> {
    let line = value.as_str().and_then(|text| text.strip_suffix('\n'));
    match line.map(|line| line.strip_suffix('\r').unwrap_or(line)) {
        Some(line) => one_line(&line.into(), 4_096),
        None => one_line(value, 4_096),
    }
}

/// Decimal, hexadecimal (`0x`) and octal (`0`) text, as Go parses it; fractions are truncated.
fn integer(value: &Value) -> Result<i64, String> {
    let wrong = || "must be a whole number".to_owned();
    match value {
        Value::Number(number) => number
            .as_i64()
            .map_or_else(|| number.as_f64().and_then(whole).ok_or_else(wrong), Ok),
        Value::Bool(on) => Ok(i64::from(*on)),
        Value::String(text) if text.is_empty() => Ok(0),
        Value::String(text) => {
            let (sign, digits) = match text.strip_prefix('-') {
                Some(digits) => (-1, digits),
                None => (1, text.strip_prefix('+').unwrap_or(text)),
            };
            let (radix, digits) = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
                Some(hex) => (16, hex),
                None => match digits.strip_prefix('0') {
                    Some(octal) if !octal.is_empty() => (8, octal.trim_start_matches(['o', 'O'])),
                    _ => (10, digits),
                },
            };
            // `from_str_radix` would accept a second sign.
            if digits.starts_with(['+', '-']) {
                return Err(wrong());
            }
            i64::from_str_radix(digits, radix).map_or_else(|_| Err(wrong()), |n| Ok(sign * n))
        }
        _ => Err(wrong()),
    }
}

/// The integer part, if it can be represented exactly.
fn whole(number: f64) -> Option<i64> {
    let whole = number.trunc();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "within 2^53 the cast is exact"
    )]
    (whole.abs() < 9_007_199_254_740_992.0).then_some(whole as i64)
}

fn number(value: &Value) -> Result<f64, String> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse::<f64>().ok(),
        _ => None,
    };
    number
        .filter(|number| number.is_finite())
        .ok_or_else(|| "must be a number".to_owned())
}

/// The words of Go's `strconv.ParseBool`; a number is true unless it is zero; empty text is false.
fn switch(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(on) => Ok(*on),
        Value::Number(number) => Ok(number.as_f64() != Some(0.0)),
        Value::String(text) => match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" | "" => Ok(false),
            _ => Err("must be true or false".to_owned()),
        },
        _ => Err("must be true or false".to_owned()),
    }
}

fn seconds(value: &Value) -> Result<u64, String> {
    let wrong = || "must be a duration: seconds, or text such as 90s, 30m, 1h or 30d".to_owned();
    let seconds = match value {
        Value::Number(number) => number
            .as_i64()
            .or_else(|| number.as_f64().and_then(whole))
            .ok_or_else(wrong)?,
        Value::String(text) => duration::parse(text).map_err(|_| wrong())?,
        _ => return Err(wrong()),
    };
    u64::try_from(seconds).map_err(|_| "must not be negative".to_owned())
}

/// As Vault reads a list: an array, or text with commas. Empty items are ignored.
fn list(value: &Value) -> Result<Vec<String>, String> {
    let texts = match value {
        Value::Array(values) => values
            .iter()
            .map(|value| one_line(value, 512))
            .collect::<Result<Vec<_>, _>>()?,
        other => {
            let text = one_line(other, 65_536)?;
            text.split(',').map(str::to_owned).collect()
        }
    };
    let texts = texts.iter().map(|text| text.trim());
    Ok(texts
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
        .collect())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;
    use serde_json::json;

    use super::*;

    fn parse(field: Field, value: Value) -> Result<Option<FieldValue>, String> {
        field.parse(&value)
    }

    macro_rules! accepts {
        ($field:expr, $variant:ident, $($value:tt => $expected:expr),+ $(,)?) => {$(
            match parse($field, json!($value)) {
                Ok(Some(FieldValue::$variant(got))) => assert_eq!(got, $expected),
                other => panic!("{}: {other:?}", json!($value)),
            }
        )+};
    }

    fn refuses(field: &Field, values: &[Value]) {
        for value in values {
            assert!(field.parse(value).is_err(), "{value}");
        }
    }

    #[test]
    fn integers_are_read_as_vault_reads_them() {
        let field = Field::integer("n", "");
        accepts!(field.clone(), Integer, 5 => 5, "5" => 5, "-5" => -5, "0x1f" => 31, "017" => 15,
            "" => 0, true => 1, 2.9 => 2, (-2.9) => -2);
        refuses(
            &field,
            &[
                json!("five"),
                json!("--5"),
                json!(1e300),
                json!([1]),
                json!("1.5"),
            ],
        );
    }

    #[test]
    fn switches_are_read_as_vault_reads_them() {
        let field = Field::switch("on", "");
        accepts!(field.clone(), Switch, true => true, "true" => true, "T" => true, 1 => true,
            "0" => false, "" => false, 0 => false);
        refuses(&field, &[json!("yes"), json!("tRUE"), json!([]), json!({})]);
    }

    #[test]
    fn durations_are_seconds_or_text() {
        let field = Field::duration("d", "");
        accepts!(field.clone(), Seconds, 90 => 90, "90" => 90, "1h30m" => 5400, "30d" => 2_592_000,
            1.9 => 1, "" => 0);
        refuses(
            &field,
            &[
                json!(-1),
                json!("-1s"),
                json!("1w"),
                json!(true),
                json!("soon"),
            ],
        );
    }

    #[test]
    fn numbers_are_finite() {
        let field = Field::number("limit", "");
        accepts!(field.clone(), Number, 2.5 => 2.5, "25" => 25.0, 0 => 0.0);
        refuses(
            &field,
            &[
                json!("NaN"),
                json!("inf"),
                json!("1e999"),
                json!("ten"),
                json!(true),
            ],
        );
    }

    #[test]
    fn text_is_one_line_and_not_too_long() {
        let field = Field::text("t", "");
        accepts!(field.clone(), Text, "a" => "a", 5 => "5", true => "1");
        refuses(
            &field,
            &[
                json!("a\nb"),
                json!("\u{0}"),
                json!("a".repeat(513)),
                json!(["a"]),
            ],
        );
        accepts!(Field::lines("pem", ""), Text, "a\nb" => "a\nb");
    }

    #[test]
    fn only_the_allowed_values_are_taken() {
        let field = Field::text("reset", "").one_of(&["daily", "weekly"]);
        let refusal = parse(field.clone(), json!("yearly")).unwrap_err();
        assert_eq!(refusal, "must be one of: daily, weekly");
        accepts!(field, Text, "daily" => "daily");
    }

    #[test]
    fn null_clears_a_nullable_field_and_is_nothing_elsewhere() {
        let nullable = Field::number("limit", "").nullable();
        for nothing in [Value::Null, json!("")] {
            let parsed = parse(nullable.clone(), nothing);
            assert!(matches!(parsed, Ok(Some(FieldValue::Null))));
        }
        assert!(matches!(
            parse(Field::number("n", ""), Value::Null),
            Ok(None)
        ));
    }

    #[test]
    fn a_secret_from_a_file_ends_before_the_end_of_its_line() {
        for text in ["sk-or-v1", "sk-or-v1\n", "sk-or-v1\r\n"] {
            let value = parse(Field::secret("key", ""), json!(text));
            let Ok(Some(FieldValue::Secret(secret))) = value else {
                panic!("{text:?}: {value:?}")
            };
            assert_eq!(secret.expose_secret(), "sk-or-v1", "{text:?}");
        }
        for text in ["sk\n\n", "\nsk", "s\nk\n", "sk\r"] {
            parse(Field::secret("key", ""), json!(text)).unwrap_err();
        }
        // Only for a secret: elsewhere it is a mistake.
        parse(Field::text("name", ""), json!("app\n")).unwrap_err();
    }

    #[test]
    fn a_secret_is_not_shown_by_debug() {
        let value = parse(Field::secret("key", ""), json!("sk-or-planted")).unwrap();
        assert!(!format!("{value:?}").contains("planted"));
    }

    #[test]
    fn a_list_is_an_array_or_text_with_commas() {
        let field = || Field::list("allowed_roles", "");
        let two = vec!["a".to_owned(), "b-*".to_owned()];
        accepts!(field(), List,
            ["a", "b-*"] => two,
            "a, b-*," => two,
            [] => [""; 0],
            "" => [""; 0],
        );
        refuses(&field(), &[json!({"a": 1}), json!([["a"]]), json!("a\nb")]);
    }
}
