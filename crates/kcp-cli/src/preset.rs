//! The five presets by name.

use kcp_async::KcpConfig;

/// One of the library's presets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preset {
    Normal,
    FastMode,
    TurboMode,
    Gaming,
    FileTransfer,
}

impl Preset {
    /// In the order the documentation lists them.
    pub(crate) const ALL: [Self; 5] = [
        Self::Normal,
        Self::FastMode,
        Self::TurboMode,
        Self::Gaming,
        Self::FileTransfer,
    ];

    /// The name of the library's function for it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::FastMode => "fast_mode",
            Self::TurboMode => "turbo_mode",
            Self::Gaming => "gaming",
            Self::FileTransfer => "file_transfer",
        }
    }

    /// Its settings.
    pub(crate) const fn config(self) -> KcpConfig {
        match self {
            Self::Normal => KcpConfig::normal(),
            Self::FastMode => KcpConfig::fast_mode(),
            Self::TurboMode => KcpConfig::turbo_mode(),
            Self::Gaming => KcpConfig::gaming(),
            Self::FileTransfer => KcpConfig::file_transfer(),
        }
    }

    /// The preset of that name; `-` counts as `_`, and `_mode` may be left out.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase().replace('-', "_");
        Self::ALL.into_iter().find(|preset| {
            let full = preset.name();
            name == full || full.strip_suffix("_mode") == Some(&name)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_every_spelling() {
        for preset in Preset::ALL {
            assert_eq!(Preset::from_name(preset.name()), Some(preset));
        }
        assert_eq!(Preset::from_name("turbo"), Some(Preset::TurboMode));
        assert_eq!(
            Preset::from_name("File-Transfer"),
            Some(Preset::FileTransfer)
        );
        assert_eq!(Preset::from_name("fastest"), None);
    }
}
