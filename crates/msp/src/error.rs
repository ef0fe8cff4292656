//! What can be wrong with certificates, chains, signatures, identities and MSPs.

use thiserror::Error;

/// Why bytes are not a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CertificateError {
    /// No PEM block was found.
    #[error("no PEM block found")]
    NotPem,
    /// A part of the DER is not what X.509 has there.
    #[error("malformed {part}")]
    Malformed {
        /// The name of the part.
        part: &'static str,
    },
    /// Bytes follow the certificate.
    #[error("bytes follow the certificate")]
    TrailingData,
    /// The two places that name the signature algorithm differ.
    #[error("inner and outer signature algorithm differ")]
    AlgorithmMismatch,
    /// An extension stands in the certificate twice.
    #[error("an extension stands in the certificate twice")]
    DuplicateExtension,
}

/// Why there is no valid chain, or not exactly one, from a certificate to a trusted root.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChainError {
    /// No trusted certificate authority has the name of the issuer.
    #[error("certificate signed by unknown authority")]
    UnknownAuthority,
    /// The authority with the issuer's name has another key, or may not sign certificates.
    #[error("not signed by the trusted authority '{authority}' that has the issuer's name")]
    NotSignedByAuthority {
        /// Common name of the authority.
        authority: String,
    },
    /// An intermediate certificate is not one of a certificate authority.
    #[error("'{name}' is not a certificate authority")]
    NotAnAuthority {
        /// Common name.
        name: String,
    },
    /// More intermediate authorities than an authority allows.
    #[error("authority '{authority}' allows {allowed} authorities below it, there are more")]
    PathTooLong {
        /// Common name of the authority.
        authority: String,
        /// Its path length.
        allowed: u64,
    },
    /// A certificate of the chain was not valid when the leaf's validity began. Times are seconds
    /// since 1970.
    #[error(
        "'{name}' is valid from {not_before} to {not_after}, not at {time} (seconds since 1970)"
    )]
    NotValidAtIssue {
        /// Common name.
        name: String,
        /// One second after the start of the leaf's validity.
        time: i64,
        /// Start of validity.
        not_before: i64,
        /// End of validity.
        not_after: i64,
    },
    /// A critical extension is not understood.
    #[error("'{name}' has a critical extension that is not understood")]
    UnknownCriticalExtension {
        /// Common name.
        name: String,
    },
    /// The extended key usages exclude that of a TLS server, which Fabric's MSPs ask for.
    #[error("the extended key usages of '{name}' do not include server authentication")]
    KeyUsage {
        /// Common name.
        name: String,
    },
    /// Explicit certificate policies are required.
    #[error("'{name}' requires certificate policies, which are missing or not evaluated")]
    Policies {
        /// Common name.
        name: String,
    },
    /// A name lies outside the name constraints of an authority.
    #[error("a name violates the name constraints of an authority")]
    NameConstraints,
    /// More than one chain.
    #[error("this MSP only supports a single validation chain, got {count}")]
    NotUnique {
        /// The number of chains.
        count: usize,
    },
    /// The search was given up.
    #[error("too many signature checks in the search for a chain")]
    TooManyChecks,
    /// A root stands where a leaf is expected.
    #[error("expected a chain of length at least 2, got {length}")]
    TooShort {
        /// The number of certificates.
        length: usize,
    },
    /// An authority that has intermediate authorities below it does not vouch for identities.
    #[error("parent certificate '{parent}' should be a leaf of the certification tree")]
    ParentIsInternal {
        /// Common name of the parent.
        parent: String,
    },
    /// Authorities are not identities.
    #[error("a certificate of a certificate authority cannot be used as an identity")]
    IsAuthority,
}

/// Why a signature over a message does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SignatureError {
    /// Not the DER of two numbers.
    #[error("signature is not the DER of two numbers")]
    Encoding,
    /// A number is zero or negative.
    #[error("signature has a number that is not positive")]
    NotPositive,
    /// S is above half the order; Fabric takes only the lower of the two valid forms.
    #[error("signature has an S above half the order of the curve")]
    HighS,
    /// Another key or another message.
    #[error("the signature is invalid")]
    Mismatch,
    /// The certificate's key is of a kind that does not sign messages.
    #[error("keys of {algorithm} cannot sign messages")]
    UnsupportedKey {
        /// Name of the algorithm.
        algorithm: &'static str,
    },
    /// The MSP's definition names a signature hash family that does not exist.
    #[error("the MSP's signature hash family is not recognized")]
    UnknownHash,
    /// The private key failed to sign.
    #[error("the private key could not be used")]
    Signing,
}

/// What is wrong with an MSP definition, an identity, or an identity's claim to a principal.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MspError {
    /// A message does not decode.
    #[error("{what} does not decode: {reason}")]
    Decode {
        /// The message.
        what: &'static str,
        /// The decoder's reason.
        reason: String,
    },

    // Definitions.
    /// A file or folder of an MSP folder is missing or unreadable.
    #[error("MSP folder: {path}: {reason}")]
    Folder {
        /// The file or folder.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The kind of MSP is not supported.
    #[error("MSP '{msp}' is of the unsupported type {found}{}", if *found == 1 { " (Idemix)" } else { "" })]
    UnsupportedType {
        /// MSP id.
        msp: String,
        /// The type number: 0 is X.509, 1 is Idemix.
        found: i32,
    },
    /// A definition is wrong.
    #[error("MSP '{msp}': {reason}")]
    Definition {
        /// MSP id.
        msp: String,
        /// What is wrong.
        reason: String,
    },
    /// One MSP id has two different definitions.
    #[error("attempted to define two different versions of MSP '{msp}'")]
    Redefined {
        /// MSP id.
        msp: String,
    },

    // Identities.
    /// The identity belongs to another MSP.
    #[error("expected MSP ID '{expected}', received '{found}'")]
    OtherMsp {
        /// The MSP that was asked.
        expected: String,
        /// The MSP that the identity names.
        found: String,
    },
    /// The channel has no such MSP.
    #[error("MSP '{msp}' is not defined on channel")]
    UnknownMsp {
        /// MSP id.
        msp: String,
    },
    /// The identity's certificate is not one.
    #[error("MSP '{msp}': the identity's certificate: {source}")]
    Certificate {
        /// MSP id.
        msp: String,
        /// What is wrong with it.
        source: CertificateError,
    },
    /// The MSP cannot tell who vouches for the identity.
    #[error("MSP '{msp}': the supplied identity is not valid: {source}")]
    Chain {
        /// MSP id.
        msp: String,
        /// What is wrong.
        source: ChainError,
    },
    /// Keys of this kind are not taken for identities (Ed25519 before capability V3_0).
    #[error("MSP '{msp}': identities with keys of {algorithm} are not supported")]
    KeyAlgorithm {
        /// MSP id.
        msp: String,
        /// Name of the algorithm.
        algorithm: &'static str,
    },
    /// A revocation list names the certificate.
    #[error("MSP '{msp}': the certificate with serial number {serial} has been revoked")]
    Revoked {
        /// MSP id.
        msp: String,
        /// Serial number in hexadecimal.
        serial: String,
    },
    /// A revocation list does not say whose it is, so that nothing can be said of any certificate.
    #[error("MSP '{msp}': a revocation list has no authority key identifier")]
    AnonymousRevocationList {
        /// MSP id.
        msp: String,
    },
    /// The organizational units are not those that the MSP asks for.
    #[error("MSP '{msp}': organizational units {units:?}: {reason}")]
    OrganizationalUnits {
        /// MSP id.
        msp: String,
        /// The identity's organizational units.
        units: Vec<String>,
        /// What is wrong with them.
        reason: &'static str,
    },

    // Principals.
    /// The principal is malformed or of a kind that the MSP's version does not know.
    #[error("invalid principal: {reason}")]
    Principal {
        /// What is wrong.
        reason: String,
    },
    /// The principal is about another MSP.
    #[error("the identity is a member of a different MSP (expected '{expected}', got '{found}')")]
    MemberOfOtherMsp {
        /// The MSP of the principal.
        expected: String,
        /// The identity's MSP.
        found: String,
    },
    /// The identity does not have the role.
    #[error("the identity is not {role} under MSP '{msp}': {reason}")]
    Role {
        /// MSP id.
        msp: String,
        /// The role.
        role: &'static str,
        /// Why not.
        reason: &'static str,
    },
    /// Another certificate, or no such organizational unit.
    #[error("the identities do not match")]
    NoMatch,
    /// X.509 certificates are never anonymous.
    #[error("principal is anonymous, but X.509 MSP does not support anonymous identities")]
    Anonymous,

    // Signing.
    /// No private key belongs to the certificate.
    #[error("MSP '{msp}': {reason}")]
    SigningKey {
        /// MSP id.
        msp: String,
        /// What is missing.
        reason: String,
    },
}
