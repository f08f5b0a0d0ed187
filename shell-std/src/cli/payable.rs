//! Whose invoice to pay for a quote, in words.

use crate::rpc::types::{Quote, Role, RouteAccepts};

/// What the payer's own node does about payments that it does not accept.
const OWN_REFUSES: &str = "restart it with --issuer KEY, or send --unchecked";

/// What to pay that every node on the route accepts, and warnings where nothing does.
pub(super) fn whom_to_pay(quote: &Quote) -> String {
    match &quote.accepts {
        Some(accepts) => told(quote, accepts),
        None => no_common_issuer(quote),
    }
}

/// The issuers of this node; `None`: it checks no payments.
fn own(quote: &Quote) -> Option<&[[u8; 33]]> {
    quote.shares.iter().find(|share| share.role == Role::Source)?.issuers.as_deref()
}

/// Where all nodes on the route have told what they accept.
fn told(quote: &Quote, accepts: &RouteAccepts) -> String {
    let RouteAccepts { any_issuer, issuers, .. } = accepts;
    let mut text = match (any_issuer, issuers.as_slice()) {
        (true, _) => {
            "an invoice of any issuer will do: no node on this route checks payments\n".into()
        }
        (false, []) => {
            let first = match quote.covenant {
                Some(_) => "pay by a covenant, or ask",
                None => "ask",
            };
            return format!(
                "warning: no issuer is accepted by every node on this route; nodes on it differ. No \
                 invoice holds at all of them: {first} their operators to accept one issuer in \
                 common\n"
            );
        }
        (false, issuers) => {
            let names = issuers.join(" or ");
            format!("pay an invoice of {names}: every node on this route accepts it\n")
        }
    };
    let is = |key: &[u8; 33], name: &String| {
        let digits = hex::encode(key);
        digits == *name || digits.get(2..18) == Some(name)
    };
    match own(quote) {
        Some([]) => {
            text.push_str(&format!("warning: your own node has no issuer; {OWN_REFUSES}\n"));
        }
        Some(keys)
            if !any_issuer && !issuers.iter().any(|name| keys.iter().any(|key| is(key, name))) =>
        {
            text.push_str(&format!(
                "warning: your own node accepts none of these issuers and would refuse to send; \
                 {OWN_REFUSES}\n"
            ));
        }
        _ => {}
    }
    text
}

/// A warning where no invoice can hold at all nodes of which it is known what they accept.
fn no_common_issuer(quote: &Quote) -> String {
    let Some(own) = own(quote) else { return String::new() };
    if own.is_empty() {
        return format!("warning: your own node has no issuer; {OWN_REFUSES}\n");
    }
    let others = quote.shares.iter().filter(|share| share.role != Role::Source);
    let known = others.filter_map(|share| Some((share.node, share.issuers.as_ref()?)));
    let mut warnings = String::new();
    for (node, keys) in known.filter(|(_, keys)| !keys.iter().any(|key| own.contains(key))) {
        let what = if keys.is_empty() { "no invoices" } else { "no issuer that your node accepts" };
        warnings.push_str(&format!("warning: {node} accepts {what}\n"));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::types::CovenantCost;

    const KEY: [u8; 33] = [2; 33];

    fn quote(own: Option<&[[u8; 33]]>, accepts: Option<RouteAccepts>) -> Quote {
        let mut quote = crate::covenant::tests::quote(1, 5_000);
        quote.shares[0].issuers = own.map(<[_]>::to_vec);
        Quote { accepts, ..quote }
    }

    fn accepts(issuers: &[&str]) -> Option<RouteAccepts> {
        let issuers = issuers.iter().map(|s| s.to_string()).collect();
        Some(RouteAccepts { any_issuer: false, issuers, min_confirmations: None })
    }

    #[test]
    fn it_says_whose_invoice_every_node_accepts() {
        let key = hex::encode(KEY);
        let text = whom_to_pay(&quote(Some(&[KEY]), accepts(&[&key])));
        assert_eq!(text, format!("pay an invoice of {key}: every node on this route accepts it\n"));
        // One that is known by its beginning, and is this node's own.
        let text =
            whom_to_pay(&quote(Some(&[KEY]), accepts(&["77".repeat(8).as_str(), &key[2..18]])));
        assert_eq!(
            text,
            "pay an invoice of 7777777777777777 or 0202020202020202: every node on this route \
             accepts it\n"
        );
    }

    #[test]
    fn it_warns_where_the_own_node_would_refuse() {
        let other = "77".repeat(33);
        let text = whom_to_pay(&quote(Some(&[KEY]), accepts(&[&other])));
        assert!(text.starts_with(&format!("pay an invoice of {other}: ")), "{text}");
        assert!(
            text.ends_with(
                "warning: your own node accepts none of these issuers and would refuse to send; \
                 restart it with --issuer KEY, or send --unchecked\n"
            ),
            "{text}"
        );
        let text = whom_to_pay(&quote(Some(&[]), accepts(&[&other])));
        assert!(text.contains("\nwarning: your own node has no issuer; restart it"), "{text}");
        // In mode open it checks nothing.
        let text = whom_to_pay(&quote(None, accepts(&[&other])));
        assert!(!text.contains("warning"), "{text}");
    }

    #[test]
    fn it_says_where_nodes_differ_and_what_to_do() {
        let mut quote = quote(Some(&[KEY]), accepts(&[]));
        let text = whom_to_pay(&quote);
        assert_eq!(
            text,
            "warning: no issuer is accepted by every node on this route; nodes on it differ. No \
             invoice holds at all of them: ask their operators to accept one issuer in common\n"
        );
        quote.covenant = Some(CovenantCost { fund_sat: 3_500, min_confirmations: 6 });
        assert!(whom_to_pay(&quote).contains("pay by a covenant, or ask their operators"));
    }

    #[test]
    fn where_nobody_checks_any_issuer_will_do() {
        let any =
            RouteAccepts { any_issuer: true, issuers: Vec::new(), min_confirmations: Some(1) };
        let text = whom_to_pay(&quote(Some(&[KEY]), Some(any.clone())));
        assert_eq!(
            text,
            "an invoice of any issuer will do: no node on this route checks payments\n"
        );
        let text = whom_to_pay(&quote(Some(&[]), Some(any)));
        assert!(text.contains("your own node has no issuer"), "{text}");
    }

    #[test]
    fn what_is_known_of_single_nodes_is_compared_where_the_route_did_not_tell() {
        let mut quote = quote(Some(&[KEY]), None);
        assert_eq!(whom_to_pay(&quote), "");
        quote.shares[1].issuers = Some(vec![[3; 33]]);
        let node = quote.shares[1].node;
        assert_eq!(
            whom_to_pay(&quote),
            format!("warning: {node} accepts no issuer that your node accepts\n")
        );
    }
}
