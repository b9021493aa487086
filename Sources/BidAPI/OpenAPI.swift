// The description of the bid API (OpenAPI 3.1), as it stands in `openapi.json`.

import Foundation
import Hummingbird

enum OpenAPI {
    private struct Description: Decodable {
        /// By path, then by method.
        let paths: [String: [String: Ignored]]
    }

    private struct Ignored: Decodable {
        init(from decoder: any Decoder) throws {}
    }

    /// Such as `GET /api/v1/auctions`.
    static var operations: Set<String> {
        guard
            let description = try? JSONDecoder().decode(
                Description.self, from: Data(PackageResources.openapi_json))
        else { preconditionFailure("openapi.json is no OpenAPI description") }
        return Set(
            description.paths.flatMap { path, methods in methods.keys.map { "\($0.uppercased()) \(path)" } })
    }

    @Sendable static func document(_ request: Request, _ context: AppContext) async throws -> Response {
        Response(
            status: .ok, headers: [.contentType: "application/json"],
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: PackageResources.openapi_json)))
    }
}
