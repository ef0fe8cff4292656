//! Policies as text: `OR('Org1MSP.admin', AND('Org2MSP.member', 'Org3MSP.member'))` for signature
//! policies (Fabric's `policydsl`) and `MAJORITY Admins` for implicit meta policies.

use selvedge_protos::Message;
use selvedge_protos::common::implicit_meta_policy::Rule as MetaRule;
use selvedge_protos::common::msp_principal::Classification;
use selvedge_protos::common::msp_role::MspRoleType;
use selvedge_protos::common::signature_policy::{NOutOf, Type};
use selvedge_protos::common::{
    ImplicitMetaPolicy, MspPrincipal, MspRole, SignaturePolicy, SignaturePolicyEnvelope,
};

use crate::error::PolicyError;

/// Gates may be nested this deep in a text.
const MAX_DEPTH: usize = 32;

/// Parses Fabric's policy language. Gates are `AND`, `OR` and `OutOf(n, ...)`, whose names may also be
/// written `And`, `and` and so on; principals are quoted, `'MSPID.role'`, where the role is member,
/// admin, client, peer or orderer.
///
/// The list of principals is in the order in which Fabric makes it, inner gates first, so that equal
/// texts give equal bytes. A principal that is named twice stands in it twice.
///
/// Fabric evaluates the text in three passes with an expression language; what that lets pass beyond
/// the language described here (arithmetic, gates within strings) is refused.
pub fn parse_policy(text: &str) -> Result<SignaturePolicyEnvelope, PolicyError> {
    let mut parser = Parser {
        text,
        position: 0,
        principals: Vec::new(),
    };
    let rule = parser.gate(0)?;
    parser.skip_blanks();
    if parser.position < text.len() {
        return Err(parser.error("unexpected text after the policy"));
    }
    Ok(SignaturePolicyEnvelope {
        version: 0,
        rule: Some(rule),
        identities: parser.principals,
    })
}

/// Parses an implicit meta policy, such as `ANY Readers`: the rule and the name of the sub-policies.
pub fn parse_implicit_meta_policy(text: &str) -> Result<ImplicitMetaPolicy, PolicyError> {
    let wrong = |position, reason: &str| PolicyError::Text {
        position,
        reason: reason.to_owned(),
    };
    let (rule, sub_policy) = text
        .split_once(' ')
        .filter(|(_, name)| !name.contains(' '))
        .ok_or_else(|| wrong(0, "expected two words, such as 'MAJORITY Admins'"))?;
    let rule = MetaRule::from_str_name(rule)
        .ok_or_else(|| wrong(0, "unknown rule, expected ALL, ANY, or MAJORITY"))?;
    Ok(ImplicitMetaPolicy {
        sub_policy: sub_policy.to_owned(),
        rule: rule.into(),
    })
}

struct Parser<'a> {
    text: &'a str,
    position: usize,
    principals: Vec<MspPrincipal>,
}

/// An argument of a gate. Principals become rules only when their gate is complete.
enum Argument {
    Gate(SignaturePolicy),
    Principal(MspPrincipal),
}

enum GateKind {
    And,
    Or,
    OutOf,
}

impl<'a> Parser<'a> {
    fn gate(&mut self, depth: usize) -> Result<SignaturePolicy, PolicyError> {
        if depth >= MAX_DEPTH {
            return Err(self.error("gates are nested too deep"));
        }
        let kind = self.gate_name()?;
        self.expect('(')?;
        let required = match kind {
            GateKind::OutOf => Some(self.number()?),
            GateKind::And | GateKind::Or => None,
        };
        let mut arguments = Vec::new();
        loop {
            if required.is_some() || !arguments.is_empty() {
                if !self.take(',') {
                    break;
                }
            } else if self.next() == Some(')') {
                break;
            }
            arguments.push(self.argument(depth)?);
        }
        self.expect(')')?;
        if arguments.is_empty() {
            return Err(self.error("a gate needs at least one principal or gate"));
        }
        let count = i32::try_from(arguments.len()).map_err(|_| self.error("too many arguments"))?;
        let required = match kind {
            GateKind::And => count,
            GateKind::Or => 1,
            GateKind::OutOf => required.unwrap_or_default(),
        };
        // One more than there are is a policy that nobody can satisfy, which Fabric allows.
        if required > count + 1 {
            return Err(self.error("the number required is larger than that of the arguments"));
        }
        let rules = arguments
            .into_iter()
            .map(|argument| self.rule(argument))
            .collect::<Result<_, _>>()?;
        Ok(SignaturePolicy {
            r#type: Some(Type::NOutOf(NOutOf { n: required, rules })),
        })
    }

    fn rule(&mut self, argument: Argument) -> Result<SignaturePolicy, PolicyError> {
        match argument {
            Argument::Gate(rule) => Ok(rule),
            Argument::Principal(principal) => {
                let index = i32::try_from(self.principals.len())
                    .map_err(|_| self.error("too many principals"))?;
                self.principals.push(principal);
                Ok(SignaturePolicy {
                    r#type: Some(Type::SignedBy(index)),
                })
            }
        }
    }

    fn argument(&mut self, depth: usize) -> Result<Argument, PolicyError> {
        match self.next() {
            Some('\'' | '"' | '`') => {
                let at = self.position;
                let text = self.string()?;
                parse_principal(text)
                    .map(Argument::Principal)
                    .ok_or_else(|| PolicyError::Text {
                        position: at,
                        reason: format!("'{text}' is not a principal such as 'Org1MSP.member'"),
                    })
            }
            _ => self.gate(depth + 1).map(Argument::Gate),
        }
    }

    fn gate_name(&mut self) -> Result<GateKind, PolicyError> {
        self.skip_blanks();
        let rest = self.rest();
        let end = rest
            .find(|symbol: char| !symbol.is_ascii_alphanumeric() && symbol != '_')
            .unwrap_or(rest.len());
        let (name, _) = rest.split_at(end);
        let kind = match name {
            "AND" | "And" | "and" => GateKind::And,
            "OR" | "Or" | "or" => GateKind::Or,
            "OUTOF" | "OutOf" | "outof" => GateKind::OutOf,
            "" => return Err(self.error("expected AND, OR or OutOf")),
            _ => {
                return Err(self.error(&format!("unrecognized token '{name}' in policy string")));
            }
        };
        self.position += end;
        Ok(kind)
    }

    /// A number, which may stand in quotes.
    fn number(&mut self) -> Result<i32, PolicyError> {
        let digits = match self.next() {
            Some('\'' | '"' | '`') => self.string()?,
            _ => {
                let rest = self.rest();
                let end = rest
                    .find(|symbol: char| !symbol.is_ascii_digit())
                    .unwrap_or(rest.len());
                self.position += end;
                rest.split_at(end).0
            }
        };
        let is_number = digits.bytes().all(|digit| digit.is_ascii_digit());
        digits
            .parse()
            .ok()
            .filter(|_| is_number)
            .ok_or_else(|| self.error("expected a number, such as in OutOf(2, ...)"))
    }

    fn string(&mut self) -> Result<&'a str, PolicyError> {
        let rest = self.rest();
        let mut symbols = rest.chars();
        let quote = symbols.next().unwrap_or('\'');
        let (text, _) = symbols
            .as_str()
            .split_once(quote)
            .ok_or_else(|| self.error("a quote is not closed"))?;
        self.position += text.len() + 2;
        Ok(text)
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.position..).unwrap_or_default()
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.position += rest.len() - rest.trim_start().len();
    }

    /// The next symbol that is not blank.
    fn next(&mut self) -> Option<char> {
        self.skip_blanks();
        self.rest().chars().next()
    }

    fn take(&mut self, symbol: char) -> bool {
        let found = self.next() == Some(symbol);
        if found {
            self.position += symbol.len_utf8();
        }
        found
    }

    fn expect(&mut self, symbol: char) -> Result<(), PolicyError> {
        if self.take(symbol) {
            Ok(())
        } else {
            Err(self.error(&format!("expected '{symbol}'")))
        }
    }

    fn error(&self, reason: &str) -> PolicyError {
        PolicyError::Text {
            position: self.position,
            reason: reason.to_owned(),
        }
    }
}

/// `MSPID.role`, where the MSP id may itself have dots and dashes in it.
fn parse_principal(text: &str) -> Option<MspPrincipal> {
    let (msp_id, role) = text.rsplit_once('.')?;
    let role = match role {
        "member" => MspRoleType::Member,
        "admin" => MspRoleType::Admin,
        "client" => MspRoleType::Client,
        "peer" => MspRoleType::Peer,
        "orderer" => MspRoleType::Orderer,
        _ => return None,
    };
    let is_valid = !msp_id.is_empty()
        && msp_id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    is_valid.then(|| MspPrincipal {
        principal_classification: Classification::Role.into(),
        principal: MspRole {
            msp_identifier: msp_id.to_owned(),
            role: role.into(),
        }
        .encode_to_vec()
        .into(),
    })
}
