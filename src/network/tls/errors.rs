//! What is said of a handshake that failed: BoringSSL's numbers and words for rustls' errors.
//!
//! Stands where Envoy has `SslSocket::drainErrorQueue` of `source/common/tls/ssl_socket.cc`.

use std::error::Error as _;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use super::cert_validator::Refusal;

/// The number of the library in BoringSSL's error codes.
const SSL: u32 = 16 << 24;
/// Alerts of the peer begin here.
const ALERTS: u32 = 1000;

/// Which statistic counts a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// `connection_error`.
    ConnectionError,
    /// `fail_verify_no_cert`.
    NoCertificate,
    /// One that who looked at the certificate has counted.
    Already,
}

/// What a log says of a failure, in BoringSSL's form, and what counts it.
pub fn describe(error: &Error) -> (String, Counted) {
    let (number, reason) = match error {
        Error::NoCertificatesPresented => {
            let reason = "PEER_DID_NOT_RETURN_A_CERTIFICATE:peer did not provide required client certificate";
            return (text(192, reason), Counted::NoCertificate);
        }
        Error::InvalidCertificate(error) => {
            let reason =
                format!("CERTIFICATE_VERIFY_FAILED:verify cert failed: {}", certificate_error(error));
            return (text(125, &reason), Counted::Already);
        }
        Error::AlertReceived(alert) => (ALERTS + u32::from(u8::from(*alert)), alert_name(*alert)),
        Error::PeerIncompatible(incompatible) => match incompatible {
            PeerIncompatible::NoCipherSuitesInCommon => (184, "NO_SHARED_CIPHER"),
            PeerIncompatible::NoKxGroupsInCommon => (321, "NO_SHARED_GROUP"),
            PeerIncompatible::NoSignatureSchemesInCommon
            | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon => {
                (253, "NO_COMMON_SIGNATURE_ALGORITHMS")
            }
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired => (240, "UNSUPPORTED_PROTOCOL"),
            _ => (137, "DECODE_ERROR"),
        },
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => (247, "WRONG_VERSION_NUMBER"),
        Error::InvalidMessage(_) => (137, "DECODE_ERROR"),
        Error::DecryptError => (139, "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"),
        Error::InappropriateMessage { .. } => (225, "UNEXPECTED_RECORD"),
        Error::InappropriateHandshakeMessage { .. } => (223, "UNEXPECTED_MESSAGE"),
        Error::PeerSentOversizedRecord => (136, "DATA_LENGTH_TOO_LONG"),
        Error::NoApplicationProtocol => (307, "NO_APPLICATION_PROTOCOL"),
        _ => (68, "INTERNAL_ERROR"),
    };
    (text(number, reason), Counted::ConnectionError)
}

/// One line of BoringSSL's queue of errors.
pub fn text(number: u32, reason: &str) -> String {
    format!("{}:SSL routines:OPENSSL_internal:{reason}", SSL + number)
}

/// As access logs and `transport failure reason` have it.
pub fn framed(text: &str) -> String {
    format!("TLS_error:|{text}:TLS_error_end")
}

fn certificate_error(error: &CertificateError) -> String {
    let of_chain =
        |text: &str| format!("X509_verify_cert: certificate verification error at depth 0: {text}");
    match error {
        CertificateError::Other(other) => match other.0.downcast_ref::<Refusal>() {
            Some(refusal) => refusal.to_string(),
            None => of_chain(&other.source().map_or_else(|| other.to_string(), ToString::to_string)),
        },
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            of_chain("certificate has expired")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            of_chain("certificate is not yet valid")
        }
        CertificateError::Revoked => of_chain("certificate revoked"),
        CertificateError::UnknownIssuer => of_chain("unable to get local issuer certificate"),
        CertificateError::UnknownRevocationStatus => of_chain("unable to get certificate CRL"),
        CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
            of_chain("CRL has expired")
        }
        CertificateError::BadSignature => of_chain("certificate signature failure"),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            of_chain("unsupported certificate purpose")
        }
        error => of_chain(&error.to_string()),
    }
}

fn alert_name(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::CloseNotify => "SSLV3_ALERT_CLOSE_NOTIFY",
        AlertDescription::UnexpectedMessage => "SSLV3_ALERT_UNEXPECTED_MESSAGE",
        AlertDescription::BadRecordMac => "SSLV3_ALERT_BAD_RECORD_MAC",
        AlertDescription::RecordOverflow => "TLSV1_ALERT_RECORD_OVERFLOW",
        AlertDescription::HandshakeFailure => "SSLV3_ALERT_HANDSHAKE_FAILURE",
        AlertDescription::BadCertificate => "SSLV3_ALERT_BAD_CERTIFICATE",
        AlertDescription::UnsupportedCertificate => "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        AlertDescription::CertificateRevoked => "SSLV3_ALERT_CERTIFICATE_REVOKED",
        AlertDescription::CertificateExpired => "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        AlertDescription::CertificateUnknown => "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        AlertDescription::IllegalParameter => "SSLV3_ALERT_ILLEGAL_PARAMETER",
        AlertDescription::UnknownCA => "TLSV1_ALERT_UNKNOWN_CA",
        AlertDescription::AccessDenied => "TLSV1_ALERT_ACCESS_DENIED",
        AlertDescription::DecodeError => "TLSV1_ALERT_DECODE_ERROR",
        AlertDescription::DecryptError => "TLSV1_ALERT_DECRYPT_ERROR",
        AlertDescription::ProtocolVersion => "TLSV1_ALERT_PROTOCOL_VERSION",
        AlertDescription::InsufficientSecurity => "TLSV1_ALERT_INSUFFICIENT_SECURITY",
        AlertDescription::InternalError => "TLSV1_ALERT_INTERNAL_ERROR",
        AlertDescription::InappropriateFallback => "TLSV1_ALERT_INAPPROPRIATE_FALLBACK",
        AlertDescription::UserCanceled => "TLSV1_ALERT_USER_CANCELLED",
        AlertDescription::NoRenegotiation => "TLSV1_ALERT_NO_RENEGOTIATION",
        AlertDescription::UnsupportedExtension => "TLSV1_ALERT_UNSUPPORTED_EXTENSION",
        AlertDescription::UnrecognisedName => "TLSV1_ALERT_UNRECOGNIZED_NAME",
        AlertDescription::BadCertificateStatusResponse => "TLSV1_ALERT_BAD_CERTIFICATE_STATUS_RESPONSE",
        AlertDescription::BadCertificateHashValue => "TLSV1_ALERT_BAD_CERTIFICATE_HASH_VALUE",
        AlertDescription::UnknownPSKIdentity => "TLSV1_ALERT_UNKNOWN_PSK_IDENTITY",
        AlertDescription::CertificateRequired => "TLSV1_ALERT_CERTIFICATE_REQUIRED",
        AlertDescription::NoApplicationProtocol => "TLSV1_ALERT_NO_APPLICATION_PROTOCOL",
        _ => "SSLV3_ALERT_UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_boringssls() {
        let (text, counted) = describe(&Error::NoCertificatesPresented);
        assert_eq!(counted, Counted::NoCertificate);
        assert!(text.starts_with("268435648:SSL routines:OPENSSL_internal:PEER_DID_NOT_RETURN"), "{text}");
        let (text, _) = describe(&Error::AlertReceived(AlertDescription::HandshakeFailure));
        assert_eq!(text, "268436496:SSL routines:OPENSSL_internal:SSLV3_ALERT_HANDSHAKE_FAILURE");
        let (text, counted) = describe(&Error::InvalidCertificate(CertificateError::Expired));
        assert_eq!(counted, Counted::Already);
        assert!(text.ends_with("at depth 0: certificate has expired"), "{text}");
    }
}
