// How long requests take, by route and status. The routes are those of the table, so the number of histograms
// has a bound, whatever callers send.

import HTTPTypes
import Hummingbird
import Synchronization
import Telemetry

final class RouteTimes: Sendable {
    private struct Key: Hashable {
        let route: String
        let status: Int
    }

    private static let bounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10]
    private let histograms = Mutex<[Key: Histogram]>([:])

    /// - Parameter route: with its method; `nil` for a request that matches none.
    func add(route: String?, status: Int, seconds: Double) {
        let key = Key(route: route ?? "none", status: status)
        let histogram = histograms.withLock { histograms in
            if let known = histograms[key] { return known }
            let new = Histogram(bounds: Self.bounds)
            histograms[key] = new
            return new
        }
        histogram.add(seconds)
    }

    var value: Metric<BidAPIReading>.Value {
        let all = histograms.withLock { $0 }
        let rising = all.sorted { ($0.key.route, $0.key.status) < ($1.key.route, $1.key.status) }
        return .histograms(
            rising.map { key, histogram in
                (
                    labels: [("route", key.route), ("status", "\(key.status)")],
                    snapshot: histogram.snapshot
                )
            })
    }
}

/// Measures each request. The outermost middleware but for the request's id.
struct TimingMiddleware: RouterMiddleware {
    let times: RouteTimes

    func handle(
        _ request: Request, context: AppContext, next: (Request, AppContext) async throws -> Response
    ) async throws -> Response {
        let arrival = ContinuousClock.now
        let response = try await next(request, context)
        times.add(
            route: context.endpointPath.map { "\(request.method.rawValue) \($0)" },
            status: response.status.code, seconds: (ContinuousClock.now - arrival) / .seconds(1))
        return response
    }
}
