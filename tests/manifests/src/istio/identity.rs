//! The workload certificates that Istio's CA would issue to pods: without a cluster there is none, so the agents find them in files.

use std::fs;
use std::path::Path;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};

/// The mesh's CA.
pub(super) struct MeshAuthority(CertifiedIssuer<'static, KeyPair>);

impl MeshAuthority {
    pub(super) fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "The mesh of the tests");
        Ok(Self(CertifiedIssuer::self_signed(
            params,
            KeyPair::generate()?,
        )?))
    }

    /// Writes what the agent of a service account's pod looks for into `folder`.
    pub(super) fn write(&self, namespace: &str, account: &str, folder: &Path) -> Result<()> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        let name = format!("spiffe://cluster.local/ns/{namespace}/sa/{account}");
        params.subject_alt_names = vec![SanType::URI(name.try_into()?)];
        let certificate = params.signed_by(&key, &self.0)?;
        fs::create_dir_all(folder)?;
        fs::write(folder.join("cert-chain.pem"), certificate.pem())?;
        fs::write(folder.join("key.pem"), key.serialize_pem())?;
        fs::write(folder.join("root-cert.pem"), self.0.pem())?;
        Ok(())
    }
}
