// The settings that can change while the bid API runs. SIGHUP reads them again. Invalid settings change
// nothing.

import Logging
import Reactor
import ServiceLifecycle
import Settings
import Synchronization
import Tokens
import UnixSignals

final class LiveSettings: Sendable {
    struct Values: Sendable {
        var tokens: TokenVerifier
        /// The key that signs new tokens. `tokens` accepts them.
        var signingKey: TokenKey
        var origins: [String]
        var trustedProxies: [AddressBlock]
        var bidsPerMinute: Int
        var auctionsPerHour: Int
        var searchesPerMinute: Int
    }

    private let values: Mutex<Values>

    /// - Parameter keys: the configured keys, or the key made at start when none are configured.
    init(_ configuration: BidAPIConfiguration, keys: (all: TokenKeys, signing: TokenKey)) {
        values = Mutex(
            Values(
                tokens: TokenVerifier(keys.all), signingKey: keys.signing, origins: configuration.origins,
                trustedProxies: configuration.trustedProxies, bidsPerMinute: configuration.bidsPerMinute,
                auctionsPerHour: configuration.auctionsPerHour,
                searchesPerMinute: configuration.searchesPerMinute))
    }

    var current: Values { values.withLock { $0 } }

    func replace(_ configuration: BidAPIConfiguration) {
        values.withLock { values in
            if let keys = configuration.tokenKeys, let signing = keys.signing {
                values.tokens = TokenVerifier(keys)
                values.signingKey = signing
            }
            values.origins = configuration.origins
            values.trustedProxies = configuration.trustedProxies
            values.bidsPerMinute = configuration.bidsPerMinute
            values.auctionsPerHour = configuration.auctionsPerHour
            values.searchesPerMinute = configuration.searchesPerMinute
        }
    }
}

/// Waits for SIGHUP.
struct SettingsReloader: Service {
    let settings: LiveSettings
    let logger: Logger

    func run() async throws {
        for await _ in await UnixSignalsSequence(trapping: .sighup).cancelOnGracefulShutdown() {
            do throws(SettingsError) {
                settings.replace(try BidAPIConfiguration(ProgramEntry.reread(BidAPISettings.schema)))
                logger.notice("settings were reloaded")
            } catch {
                logger.error("settings were not reloaded; nothing changed", metadata: ["error": "\(error)"])
            }
        }
    }
}
