//! An Envoy's memory, as the kernel and Envoy's allocator tell it.

use super::Envoy;

impl Envoy {
    /// The most memory that it had since [`Self::forget_peak`], in bytes.
    pub fn peak(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// Measures the peak anew from here on; returns what it has now, in bytes.
    pub fn forget_peak(&self) -> u64 {
        let reset = std::fs::write(format!("/proc/{}/clear_refs", self.pid()), "5");
        reset.expect("a child of our own");
        self.resident_memory()
    }

    /// All that is resident, in bytes.
    pub fn resident_memory(&self) -> u64 {
        self.memory("VmRSS:")
    }

    fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("a child of our own");
        let value = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = value.and_then(|value| value.trim().strip_suffix(" kB"));
        let kib: u64 = kib.and_then(|kib| kib.parse().ok()).expect("kibibytes");
        kib * 1024
    }

    /// What it uses, in bytes: anonymous resident memory without what its allocator keeps for later. That is tens of megabytes, because the start compiles the plugin and large
    /// bodies come and go, and it hides what is really taken and given back.
    pub async fn used_memory(&self) -> u64 {
        let memory = self.admin_get("/memory").await.json();
        // Envoy writes 64-bit numbers as texts, and leaves out those that are 0.
        let field = |name: &str| {
            let number = memory
                .get(name)
                .map_or("0", |text| text.as_str().unwrap_or("?"));
            number
                .parse::<u64>()
                .unwrap_or_else(|error| panic!("Envoy's /memory changed: {error} in {memory}"))
        };
        let (allocated, held) = (field("allocated"), field("total_physical_bytes"));
        assert!(
            held > 0 && allocated <= held,
            "Envoy's /memory changed: {memory}"
        );
        (self.memory("RssAnon:") + allocated).saturating_sub(held)
    }
}
