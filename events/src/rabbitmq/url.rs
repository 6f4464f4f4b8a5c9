//! What the settings of a broker say, checked. Pure.

use percent_encoding::percent_decode_str;

use crate::config::{QueueConfig, RabbitMqConfig};

/// The longest name of an exchange, a queue or a binding: what fits into a short string of AMQP, and half of it.
const NAME_BYTES_MAX: usize = 127;

/// Where a broker is, and as whom and to what part of it we connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) tls: bool,
    pub(super) user: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) vhost: String,
}

/// What is wrong with the settings that can be seen without the broker.
///
/// # Errors
/// A sentence that names the setting and says what would be right. The URL is not repeated: it may hold a password
/// that should not be there.
pub fn check(config: &RabbitMqConfig) -> Result<(), String> {
    let url = parse(&config.url)?;
    if config.password_file.is_none() {
        return Err(
            "rabbitmq.password_file is needed: a file with the password of the user in rabbitmq.url".into()
        );
    }
    if url.tls && config.ca_file.is_none() {
        return Err("rabbitmq.ca_file is needed for TLS; amqp:// in rabbitmq.url does without".into());
    }
    if !is_name(&config.exchange) {
        return Err(format!("rabbitmq.exchange must {NAME_RULE}"));
    }
    for QueueConfig { name, bindings } in &config.queues {
        if !is_name(name) {
            return Err(format!("rabbitmq.queues: a queue's name must {NAME_RULE}"));
        }
        if bindings.is_empty() || !bindings.iter().all(|binding| is_binding(binding)) {
            return Err(
                "rabbitmq.queues: a queue's bindings must be one or more of words of a-z, 0-9 and '_', '*' and '#', \
                 with dots between, such as payment.#"
                    .into(),
            );
        }
    }
    Ok(())
}

const NAME_RULE: &str = "have 1 to 127 visible ASCII characters and must not begin with amq.";

fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic())
        && !name.starts_with("amq.")
}

fn is_binding(binding: &str) -> bool {
    let is_word = |word: &str| {
        let legal = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
        matches!(word, "*" | "#") || (!word.is_empty() && word.bytes().all(legal))
    };
    binding.len() <= NAME_BYTES_MAX && binding.split('.').all(is_word)
}

pub(super) fn parse(url: &str) -> Result<Url, String> {
    let wrong = || "rabbitmq.url must be a URL such as amqps://user@host:5671/vhost".to_owned();
    let (tls, rest) = match url.split_once("://") {
        Some(("amqps", rest)) => (true, rest),
        Some(("amqp", rest)) => (false, rest),
        _ => return Err("rabbitmq.url must begin with amqps:// or amqp://".to_owned()),
    };
    if rest.contains(['?', '#']) {
        return Err(
            "rabbitmq.url must have no parameters: what can be set has a setting of its own".to_owned()
        );
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, place) = authority.rsplit_once('@').ok_or_else(wrong)?;
    if user.contains(':') {
        return Err(
            "rabbitmq.url must not hold a password: put it into a file and name that in password_file"
                .to_owned(),
        );
    }
    // The last colon is the port's, unless it is within an address of IPv6.
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| wrong())?),
        _ => (place, if tls { 5671 } else { 5672 }),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let text = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8().map_err(|_| wrong())?;
        if decoded.len() <= NAME_BYTES_MAX { Ok(decoded.into_owned()) } else { Err(wrong()) }
    };
    let (user, vhost) = (text(user)?, if path.is_empty() { "/".to_owned() } else { text(path)? });
    if user.is_empty() || host.is_empty() || path.contains('/') {
        return Err(wrong());
    }
    Ok(Url { tls, user, host: host.to_owned(), port, vhost })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let url = |tls, user: &str, host: &str, port, vhost: &str| Url {
            tls,
            user: user.into(),
            host: host.into(),
            port,
            vhost: vhost.into(),
        };
        assert_eq!(parse("amqps://u@h"), Ok(url(true, "u", "h", 5671, "/")));
        assert_eq!(parse("amqp://u@h:1/"), Ok(url(false, "u", "h", 1, "/")));
        assert_eq!(parse("amqp://u@h/%2f"), Ok(url(false, "u", "h", 5672, "/")));
        assert_eq!(parse("amqps://a%40b@[::1]:7/shop"), Ok(url(true, "a@b", "::1", 7, "shop")));
        assert_eq!(parse("amqps://u@[::1]"), Ok(url(true, "u", "::1", 5671, "/")));
    }

    #[test]
    fn what_cannot_be_is_refused_and_not_repeated() {
        for (wrong, what) in [
            ("http://u@h", "amqps://"),
            ("amqps://u:s3cret@h", "password_file"),
            ("amqps://u@h?heartbeat=1", "parameters"),
            ("amqps://h", "such as"),
            ("amqps://@h", "such as"),
            ("amqps://u@", "such as"),
            ("amqps://u@h:port", "such as"),
            ("amqps://u@h/a/b", "such as"),
            ("amqps://u@h/%ff", "such as"),
        ] {
            let said = parse(wrong).unwrap_err();
            assert!(said.contains(what) && !said.contains("s3cret"), "{wrong}: {said}");
        }
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        let right = RabbitMqConfig {
            url: "amqp://u@h".into(),
            password_file: Some("p".into()),
            queues: vec![QueueConfig {
                name: "q".into(),
                bindings: vec!["payment.#".into(), "*.a_1".into()],
            }],
            ..RabbitMqConfig::default()
        };
        assert_eq!(check(&right), Ok(()));
        let queue = |name: &str, bindings: &[&str]| {
            let bindings = bindings.iter().map(|&binding| binding.to_owned()).collect();
            RabbitMqConfig { queues: vec![QueueConfig { name: name.into(), bindings }], ..right.clone() }
        };
        let cases = [
            (RabbitMqConfig { password_file: None, ..right.clone() }, "password_file"),
            (RabbitMqConfig { url: "amqps://u@h".into(), ..right.clone() }, "ca_file"),
            (RabbitMqConfig { exchange: "amq.topic".into(), ..right.clone() }, "exchange"),
            (queue("", &["#"]), "name"),
            (queue("q", &[]), "bindings"),
            (queue("q", &["payment#"]), "bindings"),
            (queue("q", &["a..b"]), "bindings"),
        ];
        for (config, what) in cases {
            let said = check(&config).unwrap_err();
            assert!(said.contains(what), "{said}");
        }
    }
}
